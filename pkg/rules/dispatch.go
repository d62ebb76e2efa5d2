package rules

// dispatch returns the chains that lead a packet from the chain root to the
// rules for its destination address: rules, each of which matches one
// destination, then tail, which any packet may meet that none of them took.
func dispatch(root string, rules, tail []Rule) []*Chain {
	all := make([]Rule, 0, len(rules)+len(tail))
	all = append(append(all, rules...), tail...)
	return []*Chain{{Name: root, Rules: all}}
}
