package status

import (
	"cmp"
	"slices"
)

// SortBy sorts by key, the highest first; equals stay in their order.
func SortBy[T any](list []T, key func(T) (uint64, error)) error {
	type keyed struct {
		item T
		key  uint64
	}
	all := make([]keyed, len(list))
	for i, item := range list {
		k, err := key(item)
		if err != nil {
			return err
		}
		all[i] = keyed{item, k}
	}
	slices.SortStableFunc(all, func(a, b keyed) int { return -cmp.Compare(a.key, b.key) })
	for i := range all {
		list[i] = all[i].item
	}
	return nil
}

// Page returns those of a sorted list that the query asks for.
func Page[T any](q *Query, list []T) []T {
	list = list[min(q.Offset, len(list)):]
	if q.Limit > 0 {
		list = list[:min(q.Limit, len(list))]
	}
	return list
}
