package crashtest

import (
	"cmp"
	"errors"
	"io"
	"slices"

	"github.com/nexuscore-labs/nexus/systems/seglog"
)

// flight is one commit that is out. Its operations are tried in any order with
// those of the other one: a write, its rest if it was short, a sync.
type flight struct {
	seglog.Commit
	written int
	ended   bool
	err     error
}

// commit submits the open batch, and lets the commits that are out get on with
// a random number of their operations while the next one fills.
func (w *workload) commit() {
	if k, ok := w.e.Cut(); ok {
		w.flights = append(w.flights, &flight{Commit: k})
	}
	for len(w.flights) > 0 && w.rng.IntN(4) > 0 {
		if w.rng.IntN(6) == 0 {
			w.stage(1 + w.rng.IntN(3))
		}
		w.advance()
	}
}

// drain ends all commits that are out.
func (w *workload) drain() {
	for len(w.flights) > 0 {
		w.advance()
	}
}

// advance does one operation of one commit that is out.
func (w *workload) advance() {
	var running []*flight
	for _, f := range w.flights {
		if !f.ended {
			running = append(running, f)
		}
	}
	if len(running) > 0 {
		w.operate(running[w.rng.IntN(len(running))])
	}
	w.settle()
}

func (w *workload) operate(f *flight) {
	if f.written == f.Bytes {
		f.ended, f.err = true, w.disk.SyncCommit(f.File)
		return
	}
	n, err := f.File.WriteAt(w.buffers[f.Buffer][f.written:f.Bytes], f.Offset+int64(f.written))
	f.written += n
	if err != nil && !errors.Is(err, io.ErrShortWrite) || n == 0 {
		f.ended, f.err = true, err
	}
}

// settle finishes commits as a caller of Engine.Finish must: in order, and an
// error of any fails all, when none is under way any more.
func (w *workload) settle() {
	var failed error
	running := false
	for _, f := range w.flights {
		failed = errors.Join(failed, f.err)
		running = running || !f.ended
	}
	if failed != nil {
		if !running {
			w.countOverlap()
			w.finish(failed)
		}
		return
	}
	if w.outOfOrder {
		w.confuse()
	}
	for len(w.flights) > 0 && w.flights[0].ended {
		w.finish(nil)
	}
}

// confuse is the error of a caller that takes any commit that ended for the
// oldest one. The older one's operations still go on.
func (w *workload) confuse() {
	for i, f := range w.flights {
		if f.ended {
			w.flights[0], w.flights[i] = f, w.flights[0]
			return
		}
	}
}

// finish reports the oldest commit and hands its result to the oracle.
func (w *workload) finish(err error) {
	oldest := slices.MinFunc(w.flights, func(a, b *flight) int { return cmp.Compare(a.Offset, b.Offset) }).Buffer
	out := w.e.Finish(err)
	if out.Err != nil && !documented(out.Err) {
		w.c.Wrong++
		w.c.note("commit: undocumented error: %v", out.Err)
	}
	w.answer(oldest, out.Err)
	for _, b := range out.AlsoFailed {
		w.answer(b, out.Err)
	}
	w.flights = w.flights[1:]
	if out.Err != nil {
		w.flights = nil
	}
}

func (w *workload) answer(buffer int, err error) {
	for _, s := range w.staged[buffer] {
		if err != nil {
			continue
		}
		if err := w.o.acknowledged(s.tenant, s.seq, s.data); err != nil {
			w.c.Wrong++
			w.c.note("%v", err)
		}
	}
	w.staged[buffer] = w.staged[buffer][:0]
}

func (w *workload) countOverlap() {
	if len(w.flights) > 1 {
		w.c.Overlaps++
	}
}
