package proxy

import (
	"context"
	"slices"

	"svcproxy/pkg/rules"
)

// settle follows a refusal: it finds the Services at fault, has their stand-ins
// take their places, and everything else in force. It returns what is in force of
// each Service. If no Service is at fault it returns the refusal.
//
// The refusal may be due to what somebody did to the tables, so it begins by
// reading them; or to what the kernel lacks, so it asks for that.
func (f *familySync) settle(ctx context.Context, snap *rules.Snapshot, goal []*rules.Service) ([]*rules.Service, error) {
	if err := f.read(ctx); err != nil {
		return nil, err
	}
	if err := f.fitFeatures(ctx); err != nil {
		return nil, err
	}
	t := newTrial(f, snap, goal)
	groups, err := t.isolate(ctx)
	for _, group := range groups {
		if err == nil {
			err = t.readmit(ctx, group)
		}
	}
	if err != nil {
		return nil, err
	}
	return t.now, t.finish(ctx)
}

// retry tries the Service in quarantine that has waited longest for it, if its time
// has come. If the kernel takes it, it may take the others that wait as well. So one
// restore at most is refused. It returns what is in force of each Service.
func (f *familySync) retry(ctx context.Context, snap *rules.Snapshot, inForce []*rules.Service) ([]*rules.Service, error) {
	due := f.quarantine.due()
	if len(due) == 0 {
		return inForce, nil
	}
	goal := slices.Clone(inForce)
	var at []int
	for _, m := range due {
		i := slices.Index(snap.Services, m.now)
		goal[i], at = m.now, append(at, i)
	}
	t := newTrial(f, snap, goal)
	t.now = slices.Clone(inForce)
	for _, group := range [][]int{at[:1], at[1:]} {
		r, err := t.with(ctx, group)
		if err != nil {
			return nil, err
		}
		if r != nil {
			if len(group) == 1 {
				due[0].refusedAgain(ctx, r.cause)
			}
			break
		}
		for range group {
			f.quarantine.release(ctx, due[0])
			due = due[1:]
		}
	}
	return t.now, t.finish(ctx)
}

// taken returns the Service as it is in force by the last sync; nil: it is not.
func (f *familySync) taken(svc *rules.Service) *rules.Service {
	if f.inForce == nil {
		return nil
	}
	return find(f.inForce.Services, nameOf(svc))
}
