package rules

import "testing"

// A chain that all Services need is wrong: every packet fares otherwise.
func BenchmarkFates(b *testing.B) {
	builder := NewBuilder(testConfig(IPv4))
	want := builder.Build(manyServices(10000))
	have := Build(builder.snap, testConfig(IPv4))
	flush(have, Nat, chainPostrouting)
	for b.Loop() {
		c := builder.Compare(have, want)
		if len(c.Diff().Services) != 1 || len(c.Fates().Differ) != 10000 {
			b.Fatal("not all fare otherwise")
		}
	}
}
