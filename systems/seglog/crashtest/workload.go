package crashtest

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/nexuscore-labs/nexus/systems/seglog"
	"github.com/nexuscore-labs/nexus/systems/seglog/faultdisk"
)

// Sizes small enough for many segments, batches and retirements in one point.
const (
	workTenants   = 5
	workSegment   = 64 << 10
	workBatch     = 16 << 10
	workRetain    = 160 << 10
	workRecordMax = 3000
)

// workload drives an Engine as a seeded scheduler would drive many concurrent
// appenders: it is deterministic, so a crash point can be repeated exactly.
type workload struct {
	rng        *rand.Rand
	disk       *faultdisk.Disk
	e          *seglog.Engine
	o          *oracle
	c          *Counts
	buffers    [3][]byte
	staged     [3][]submission // by buffer
	flights    []*flight       // commits that are out, the oldest first
	inFlight   int             // 1 or 2; 0 is either at each open
	outOfOrder bool            // see Options.FinishOutOfOrder
	number     uint64          // of the next payload
	clock      time.Time
	dead       error // why the log stopped
}

type submission struct {
	tenant uint32
	seq    uint64
	data   []byte
}

func newWorkload(o Options, rng *rand.Rand, c *Counts) *workload {
	return &workload{
		rng: rng, o: newOracle(), c: c, clock: time.Unix(1_700_000_000, 0), outOfOrder: o.FinishOutOfOrder,
		buffers: [3][]byte{make([]byte, workBatch), make([]byte, workBatch), make([]byte, workBatch)},
	}
}

// open recovers the log on the disk.
func (w *workload) open(disk *faultdisk.Disk) error {
	w.disk, w.staged, w.flights, w.dead = disk, [3][]submission{}, nil, nil
	inFlight := w.inFlight
	if inFlight == 0 {
		inFlight = 1 + w.rng.IntN(2)
	}
	e, err := seglog.OpenEngine(disk, w.options(), w.buffers[:inFlight+1])
	if err != nil {
		return err
	}
	w.e = e
	return nil
}

func (w *workload) options() seglog.Options {
	return seglog.Options{
		SegmentBytes: workSegment, BatchBytes: workBatch, RecordBytesMax: workRecordMax + 8, RetainBytes: workRetain,
		Now:    func() time.Time { w.clock = w.clock.Add(time.Millisecond); return w.clock },
		Random: w.rng.Uint64,
	}
}

// run appends for so many steps, or until the log stops.
func (w *workload) run(steps int) {
	for range steps {
		if w.dead != nil || w.disk.Cut() {
			return
		}
		switch w.rng.IntN(12) {
		case 0:
			w.prepare()
		case 1:
			w.retire()
		default:
			w.stage(1 + w.rng.IntN(6))
			w.commit()
		}
	}
}

// stage hands some records of random tenants to the log.
func (w *workload) stage(n int) {
	for range n {
		tenant := w.rng.Uint32N(workTenants)
		data := payload(w.number, w.size())
		w.number++
		seq, err := w.e.Stage(tenant, data)
		if errors.Is(err, seglog.ErrBusy) {
			w.prepare()
			return
		}
		if err != nil {
			if !documented(err) {
				w.c.Wrong++
				w.c.note("append: undocumented error: %v", err)
			}
			if w.e.Err() != nil {
				w.dead = err
			}
			w.clock = w.clock.Add(time.Second) // past the pause after a failed preparation
			return
		}
		w.o.submitted(tenant, seq, data)
		b := w.e.OpenBuffer()
		w.staged[b] = append(w.staged[b], submission{tenant, seq, data})
	}
}

func (w *workload) size() int {
	if w.rng.IntN(4) == 0 {
		return w.rng.IntN(workRecordMax)
	}
	return w.rng.IntN(200)
}

func (w *workload) prepare() {
	if p := w.e.Prepare(); p != nil {
		p.Run()
		w.e.Prepared(p)
	}
}

// retire removes old segments. The oracle allows the new low watermarks as soon
// as they may have become durable.
func (w *workload) retire() {
	r := w.e.Retire()
	if r == nil {
		return
	}
	r.Lows(func(tenant uint32, low uint64) {
		h := w.o.of(tenant)
		h.low = max(h.low, low)
	})
	if r.Run() != nil {
		return
	}
	w.e.Retired(r)
	w.c.Retired++
	_ = r.Remove() // what it leaves, recovery removes
}

// close commits what is staged and closes the log.
func (w *workload) close() error {
	w.drain()
	w.commit()
	w.drain()
	return w.e.Close(func(k seglog.Commit) error {
		return w.disk.Commit(k.File, w.buffers[k.Buffer][:k.Bytes], k.Offset)
	})
}
