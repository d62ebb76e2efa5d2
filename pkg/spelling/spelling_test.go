package spelling

import (
	"slices"
	"testing"
)

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"web", "web", 0}, {"web", "", 3}, {"web", "wbe", 2}, {"web", "webs", 1}, {"nginx", "ngnix", 2}, {"kitten", "sitting", 3}} {
		if there, back := Distance(c.a, c.b), Distance(c.b, c.a); there != c.want || back != c.want {
			t.Errorf("%q, %q: %d there and %d back, want %d", c.a, c.b, there, back, c.want)
		}
	}
}

func TestNearest(t *testing.T) {
	got := Nearest([]Candidate{{"d", 4}, {"b", 1}, {"c", 2}, {"a", 1}, {"b", 0}, {"e", 9}})
	if want := []string{"b", "a", "c"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := Nearest(nil); got != nil {
		t.Errorf("of nothing: %v", got)
	}
}
