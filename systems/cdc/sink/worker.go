package sink

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// work sends the changes of one queue until it is closed and empty, or the sink
// is stopped.
func (s *Sink) work(queue <-chan queued) {
	for {
		batch := s.gather(queue)
		if len(batch) == 0 {
			return
		}
		if !s.deliver(latest(batch)) {
			return // stopped: these stay behind the checkpoint
		}
		s.stats.Superseded.Add(uint64(len(batch) - len(latest(batch))))
		s.tickets.settle(batch)
	}
}

// gather waits for a change and takes what else is there.
func (s *Sink) gather(queue <-chan queued) []queued {
	var batch []queued
	select {
	case q, open := <-queue:
		if !open {
			return nil
		}
		batch = append(batch, q)
	case <-s.running.Done():
		return nil
	}
	var late <-chan time.Time
	if s.o.Linger > 0 {
		late = time.After(s.o.Linger)
	}
	for len(batch) < s.o.BatchMax {
		if late == nil {
			select {
			case q, open := <-queue:
				if !open {
					return batch
				}
				batch = append(batch, q)
				continue
			default:
				return batch
			}
		}
		select {
		case q, open := <-queue:
			if !open {
				return batch
			}
			batch = append(batch, q)
		case <-late:
			return batch
		}
	}
	return batch
}

// latest keeps the last change of each key. One that keeps the vector takes it
// over from the one before.
func latest(batch []queued) []Change {
	at := make(map[string]int, len(batch))
	out := make([]Change, 0, len(batch))
	for _, q := range batch {
		name := keyOf(q.Change)
		if i, known := at[name]; known {
			if before := out[i]; q.KeepVector && !before.KeepVector && !before.Delete {
				q.Vector, q.KeepVector = before.Vector, false
			}
			out[i] = q.Change
			continue
		}
		at[name] = len(out)
		out = append(out, q.Change)
	}
	return out
}

// deliver returns when the target took the changes or they are put aside; false
// when the sink was stopped before.
func (s *Sink) deliver(changes []Change) bool {
	for try := 0; ; try++ {
		err := s.attempt(changes)
		switch {
		case err == nil:
			s.stats.Batches.Add(1)
			s.stats.Applied.Add(uint64(len(changes)))
			return true
		case s.running.Err() != nil:
			return false
		case errors.Is(err, ErrRejected) && len(changes) > 1:
			half := len(changes) / 2
			return s.deliver(changes[:half]) && s.deliver(changes[half:])
		case errors.Is(err, ErrRejected):
			return s.putAside(changes[0], err)
		}
		s.stats.Retries.Add(1)
		if !s.pause(try) {
			return false
		}
	}
}

func (s *Sink) attempt(changes []Change) error {
	ctx, cancel := context.WithTimeout(s.running, s.o.AttemptMax)
	defer cancel()
	return s.target.Apply(ctx, changes)
}

// putAside does not give up either: a change that is nowhere would be lost.
func (s *Sink) putAside(c Change, why error) bool {
	for try := 0; s.letters.add(c, why) != nil; try++ {
		s.stats.Retries.Add(1)
		if !s.pause(try) {
			return false
		}
	}
	s.stats.DeadLetters.Add(1)
	if s.o.OnDeadLetter != nil {
		s.o.OnDeadLetter(c)
	}
	return true
}

// pause sleeps a random part of a span that doubles with each try ("full
// jitter"), so that many sinks don't come back to a target in step.
func (s *Sink) pause(try int) bool {
	span := s.o.PauseMax
	if try < 30 {
		span = min(s.o.PauseMax, s.o.PauseMin<<try)
	}
	timer := time.NewTimer(time.Duration(rand.Int64N(int64(span) + 1)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.running.Done():
		return false
	}
}
