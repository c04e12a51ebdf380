package sink

import (
	"context"
	"fmt"
)

// Watch notes which keys were put since it began.
type Watch struct {
	sink *Sink
	keys map[string]struct{}
}

// Watch begins; End it.
func (s *Sink) Watch() *Watch {
	w := &Watch{sink: s, keys: map[string]struct{}{}}
	s.order.Lock()
	s.watches[w] = struct{}{}
	s.order.Unlock()
	return w
}

// PutUntouched is Put, unless a change of the key was put since the watch began:
// then it returns false, and that change or one after it decides.
func (w *Watch) PutUntouched(ctx context.Context, c Change) (bool, error) {
	return w.sink.put(ctx, c, w)
}

// End stops noting.
func (w *Watch) End() {
	w.sink.order.Lock()
	defer w.sink.order.Unlock()
	delete(w.sink.watches, w)
}

// Entry is a record as a scan gives it: its key and a fingerprint of what is to
// be in the target, equal where nothing has to be done.
type Entry struct {
	Collection  string
	Key         string
	Fingerprint uint64
}

// Source is scanned and read by Resync.
type Source interface {
	// Scan gives every record once; a record that changes meanwhile may be given
	// as it was or as it is.
	Scan(ctx context.Context, visit func(Entry) error) error
	// Read returns the record as it is now, as an upsert, or its deletion.
	Read(ctx context.Context, collection, key string) (Change, error)
}

// Report is what a resync found.
type Report struct {
	Source, Target            int // records
	Missing, Different, Extra int // of the target
	Repaired                  int // changes put
	Overtaken                 int // keys that changed by themselves meanwhile
}

// Resync makes the target equal the source, while changes go on: it compares a
// scan of both and puts, for each record that differs, the source's state of
// now. A record that was put by somebody else since Resync began is left to
// that: its newest state came, or will come, as a change. The target is scanned
// after all changes put before are settled. Resync returns when its own changes
// are settled.
//
// Memory: 32 bytes and the key for each record of the source.
func (s *Sink) Resync(ctx context.Context, source Source, scanTarget func(ctx context.Context, visit func(Entry) error) error) (Report, error) {
	w := s.Watch()
	defer w.End()
	var report Report
	if err := s.Flush(ctx); err != nil {
		return report, fmt.Errorf("settle changes before a resync: %w", err)
	}
	want := map[string]wanted{}
	err := source.Scan(ctx, func(e Entry) error {
		want[keyOf(Change{Collection: e.Collection, Key: e.Key})] = wanted{e, false}
		return nil
	})
	if err != nil {
		return report, fmt.Errorf("scan source: %w", err)
	}
	report.Source = len(want)
	var differing []Entry
	err = scanTarget(ctx, func(e Entry) error {
		report.Target++
		name := keyOf(Change{Collection: e.Collection, Key: e.Key})
		there, ok := want[name]
		switch {
		case !ok:
			report.Extra++
			differing = append(differing, e)
		case there.Fingerprint != e.Fingerprint:
			report.Different++
			differing = append(differing, e)
		}
		if ok {
			there.found = true
			want[name] = there
		}
		return nil
	})
	if err != nil {
		return report, fmt.Errorf("scan target: %w", err)
	}
	for _, there := range want {
		if !there.found {
			report.Missing++
			differing = append(differing, there.Entry)
		}
	}
	if err := w.repair(ctx, source, differing, &report); err != nil {
		return report, err
	}
	return report, s.Flush(ctx)
}

type wanted struct {
	Entry
	found bool
}

func (w *Watch) repair(ctx context.Context, source Source, differing []Entry, report *Report) error {
	for _, e := range differing {
		c, err := source.Read(ctx, e.Collection, e.Key)
		if err != nil {
			return fmt.Errorf("read %s/%s of the source: %w", e.Collection, e.Key, err)
		}
		c.Collection, c.Key = e.Collection, e.Key
		taken, err := w.PutUntouched(ctx, c)
		switch {
		case err != nil:
			return fmt.Errorf("repair %s/%s: %w", e.Collection, e.Key, err)
		case taken:
			report.Repaired++
		default:
			report.Overtaken++
		}
	}
	return nil
}
