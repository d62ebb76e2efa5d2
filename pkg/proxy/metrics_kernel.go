package proxy

import (
	"context"
	"errors"

	"svcproxy/pkg/kernel"
	"svcproxy/pkg/rules"
)

// countedKernel counts what is written to the kernel of a family.
type countedKernel struct {
	Kernel
	family  rules.Family
	metrics *syncMetrics
	written map[rules.TableName]int // rules, in this sync
}

// begin notes that a sync begins.
func (k *countedKernel) begin() { k.written = map[rules.TableName]int{} }

// end notes that it is over.
func (k *countedKernel) end() {
	for _, t := range rules.Tables() {
		k.metrics.rulesWritten.WithLabelValues(string(t), k.family.String()).Set(float64(k.written[t]))
	}
}

// Apply is part of Kernel.
func (k *countedKernel) Apply(ctx context.Context, plan *rules.Plan) error {
	err := k.Kernel.Apply(ctx, plan)
	done := len(plan.Transactions)
	if err != nil {
		done = 0 // as far as is known
		k.metrics.failures.WithLabelValues(k.family.String()).Inc()
	}
	var refused *kernel.RestoreError
	if errors.As(err, &refused) {
		done = refused.Done
	}
	for i := range plan.Transactions[:done] {
		k.count(&plan.Transactions[i])
	}
	return err
}

func (k *countedKernel) count(tx *rules.Transaction) {
	family, table := k.family.String(), string(tx.Table)
	k.metrics.transactions.WithLabelValues(family, table).Inc()
	k.metrics.chains.WithLabelValues(family, table).Add(float64(len(tx.Write) + len(tx.Delete)))
	for _, c := range tx.Write {
		k.written[tx.Table] += len(c.Rules)
	}
}
