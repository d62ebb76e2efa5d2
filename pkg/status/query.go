package status

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Order is what a report's Services are sorted by.
type Order string

const (
	ByName        Order = "name"
	ByConnections Order = "connections" // most first
	ByEndpoints   Order = "endpoints"   // most first
	ByChange      Order = "changed"     // the latest change first
)

// Orders lists all orders.
func Orders() []Order { return []Order{ByName, ByConnections, ByEndpoints, ByChange} }

// Query says what a report is asked for. The zero value asks for all Services by
// name, without counters.
type Query struct {
	Names    []Name // all of these; empty: every Service
	Search   string // a part of namespace/name, in lower case; empty: any
	Trouble  bool   // only those with something wrong
	Sort     Order  // empty: ByName
	Offset   int
	Limit    int  // of Services; 0: none
	Counters bool // connections and measured shares
	Flows    bool // conntrack's connections of each endpoint
}

// Name is a Service; an empty Name is all of the namespace.
type Name struct{ Namespace, Name string }

func (n Name) String() string {
	if n.Name == "" {
		return n.Namespace
	}
	return n.Namespace + "/" + n.Name
}

// ParseName reads NAMESPACE or NAMESPACE/NAME.
func ParseName(s string) (Name, error) {
	namespace, name, both := strings.Cut(s, "/")
	if namespace == "" || both && name == "" || strings.Contains(name, "/") {
		return Name{}, fmt.Errorf("%q is neither NAMESPACE nor NAMESPACE/NAME", s)
	}
	return Name{namespace, name}, nil
}

// The names of a query's parts in a URL.
const (
	keyService  = "service"
	keySearch   = "search"
	keyTrouble  = "trouble"
	keySort     = "sort"
	keyOffset   = "offset"
	keyLimit    = "limit"
	keyCounters = "counters"
	keyFlows    = "flows"
)

// Values returns the query as a URL has it.
func (q *Query) Values() url.Values {
	v := url.Values{}
	for _, n := range q.Names {
		v.Add(keyService, n.String())
	}
	for key, on := range map[string]bool{keyTrouble: q.Trouble, keyCounters: q.Counters, keyFlows: q.Flows} {
		if on {
			v.Set(key, "true")
		}
	}
	for key, n := range map[string]int{keyOffset: q.Offset, keyLimit: q.Limit} {
		if n != 0 {
			v.Set(key, strconv.Itoa(n))
		}
	}
	for key, s := range map[string]string{keySearch: q.Search, keySort: string(q.Sort)} {
		if s != "" {
			v.Set(key, s)
		}
	}
	return v
}

// ParseQuery reads what Values made. The error names the part and its value.
func ParseQuery(v url.Values) (Query, error) {
	p := queryParser{values: v}
	q := Query{
		Search: strings.ToLower(v.Get(keySearch)), Sort: Order(v.Get(keySort)),
		Trouble: p.boolean(keyTrouble), Counters: p.boolean(keyCounters), Flows: p.boolean(keyFlows),
		Offset: p.number(keyOffset), Limit: p.number(keyLimit),
	}
	for _, s := range v[keyService] {
		n, err := ParseName(s)
		p.fail(keyService, err)
		q.Names = append(q.Names, n)
	}
	if q.Sort != "" {
		p.fail(keySort, CheckOrder(q.Sort))
	}
	for key := range v {
		if !slices.Contains([]string{keyService, keySearch, keyTrouble, keySort, keyOffset, keyLimit, keyCounters, keyFlows}, key) {
			p.fail(key, fmt.Errorf("is not known"))
		}
	}
	return q, p.err
}

// CheckOrder returns an error unless the order is one of Orders.
func CheckOrder(o Order) error {
	if slices.Contains(Orders(), o) {
		return nil
	}
	return fmt.Errorf("%q is none of name, connections, endpoints and changed", o)
}

// queryParser keeps the first error.
type queryParser struct {
	values url.Values
	err    error
}

func (p *queryParser) fail(key string, err error) {
	if p.err == nil && err != nil {
		p.err = fmt.Errorf("%s: %w", key, err)
	}
}

func (p *queryParser) boolean(key string) bool {
	text := p.values.Get(key)
	if text == "" {
		return false
	}
	on, err := strconv.ParseBool(text)
	if err != nil {
		p.fail(key, fmt.Errorf("%q is neither true nor false", text))
	}
	return on
}

func (p *queryParser) number(key string) int {
	text := p.values.Get(key)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		p.fail(key, fmt.Errorf("%q is no number from 0 on", text))
	}
	return int(n)
}

// Has reports whether a Service is one of those that the query names and searches for.
func (q *Query) Has(namespace, name string) bool {
	if q.Search != "" && !strings.Contains(namespace+"/"+name, q.Search) {
		return false
	}
	if len(q.Names) == 0 {
		return true
	}
	return slices.ContainsFunc(q.Names, func(n Name) bool {
		return n.Namespace == namespace && (n.Name == "" || n.Name == name)
	})
}
