package proxy

import "time"

// pace spaces the reads that others ask for by writing. On many nodes somebody
// writes rules of his own with each pod: as long as nothing is found wrong, that
// costs an eighth of a core at most, and the first time after a quiet while it is
// looked at at once. What is wrong is set right each time, up to the point where
// somebody seems to insist.
type pace struct {
	earliest time.Time
	last     time.Time
	streak   int // how many times in a row something was wrong
}

const (
	fruitlessPauses = 7  // how many times as long as a read took nothing is read after it
	maxStreak       = 10 // more than what comes from one mishap
	streakEnd       = time.Minute
)

func (p *pace) allows(now time.Time) bool { return !now.Before(p.earliest) }

// done notes a read that ended now, and whether it found something wrong.
func (p *pace) done(now time.Time, took time.Duration, wrong bool) {
	if !wrong || now.Sub(p.last) > streakEnd {
		p.streak = 0
	}
	if wrong {
		p.streak++
	}
	p.last, p.earliest = now, now
	if !wrong || p.streak > maxStreak {
		p.earliest = now.Add(fruitlessPauses * took)
	}
}
