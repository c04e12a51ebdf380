package files

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/nexuscore-labs/nexus/uring"
	"golang.org/x/sys/unix"
)

// operation is one of the Depth that are under way.
type operation struct {
	block   uint64
	startNs int64
	syncing bool
}

// loop keeps Depth operations under way. It belongs to one locked thread.
type loop struct {
	cfg        *Config
	ring       *uring.Ring
	memory     []byte
	blocks     uint64
	next       uint64 // SyncedWrite: the next block
	random     *rand.Rand
	operations []operation
	measureNs  int64
	endNs      int64
	nowNs      int64
	flying     int
	result     *Result
	err        error
}

func newLoop(c *Config, r *uring.Ring, memory []byte) *loop {
	return &loop{
		cfg: c, ring: r, memory: memory, blocks: uint64(c.Len / int64(c.BlockLen)),
		random: rand.New(rand.NewPCG(c.Seed, 0x66696c65)), operations: make([]operation, c.Depth),
		result: &Result{Latency: hdrhistogram.New(1, latencyMax, digits), Sync: hdrhistogram.New(1, latencyMax, digits)},
	}
}

func (l *loop) run() error {
	l.nowNs = uring.Now()
	l.measureNs = l.nowNs + int64(l.cfg.Warmup)
	l.endNs = l.measureNs + int64(l.cfg.Duration)
	for i := range l.operations {
		l.start(i)
	}
	complete := l.complete
	measuring := false
	cpuNs := int64(0)
	for l.flying > 0 {
		if !measuring && l.nowNs >= l.measureNs {
			measuring, cpuNs = true, threadCPUNs()
		}
		if _, err := l.ring.SubmitAndWait(1, waitMax); err != nil {
			return err
		}
		// One reading for all that is there, like fio's.
		l.nowNs = uring.Now()
		l.ring.ForEach(complete)
		if l.err != nil {
			return l.err
		}
		if measuring && l.result.CPUNs == 0 && l.nowNs >= l.endNs {
			l.result.CPUNs = threadCPUNs() - cpuNs
		}
	}
	l.result.ElapsedNs = int64(l.cfg.Duration)
	return nil
}

// start prepares operation i's next read or write.
func (l *loop) start(i int) {
	o := &l.operations[i]
	p := l.bytes(i)
	if l.cfg.Pattern == SyncedWrite {
		o.block = l.next
		l.next = (l.next + 1) % l.blocks
		mark(p, l.cfg.Seed, o.block)
		o.startNs = uring.Now()
		l.ring.SQE().WriteFixed(0, p, o.block*uint64(len(p)), 0).With(uring.FixedFile).Data(uint64(i))
	} else {
		o.block = l.random.Uint64N(l.blocks)
		clear(p[:16]) // what an earlier read left must not pass for this one's
		o.startNs = uring.Now()
		l.ring.SQE().ReadFixed(0, p, o.block*uint64(len(p)), 0).With(uring.FixedFile).Data(uint64(i))
	}
	l.flying++
}

func (l *loop) bytes(i int) []byte {
	return l.memory[i*l.cfg.BlockLen : (i+1)*l.cfg.BlockLen : (i+1)*l.cfg.BlockLen]
}

func (l *loop) complete(e *uring.CQE) {
	i := int(e.UserData)
	o := &l.operations[i]
	l.flying--
	if err := l.check(i, e); err != nil {
		l.err = err
		return
	}
	inside := o.startNs >= l.measureNs && l.nowNs < l.endNs
	ns := min(l.nowNs-o.startNs, latencyMax)
	if o.syncing {
		o.syncing = false
		if inside {
			_ = l.result.Sync.RecordValue(ns) // in range by the line above
		}
		l.again(i)
		return
	}
	if l.nowNs >= l.measureNs && l.nowNs < l.endNs {
		l.result.Completed++
	}
	if inside {
		_ = l.result.Latency.RecordValue(ns)
	}
	if l.cfg.Pattern == SyncedWrite {
		o.syncing, o.startNs = true, uring.Now()
		l.ring.SQE().Fdatasync(0).With(uring.FixedFile).Data(uint64(i))
		l.flying++
		return
	}
	l.again(i)
}

func (l *loop) again(i int) {
	if l.nowNs < l.endNs {
		l.start(i)
	}
}

// check demands a whole block, and of a read the block's own bytes.
func (l *loop) check(i int, e *uring.CQE) error {
	o := &l.operations[i]
	if err := uring.Err(e); err != nil {
		return fmt.Errorf("%s of block %d: %w", l.cfg.Pattern, o.block, err)
	}
	if o.syncing {
		return nil
	}
	p := l.bytes(i)
	if int(e.Res) != len(p) {
		return fmt.Errorf("%s of block %d: %d of %d bytes", l.cfg.Pattern, o.block, e.Res, len(p))
	}
	var want [16]byte
	mark(want[:], l.cfg.Seed, o.block)
	if binary.LittleEndian.Uint64(p) != binary.LittleEndian.Uint64(want[:]) || binary.LittleEndian.Uint64(p[8:]) != binary.LittleEndian.Uint64(want[8:]) {
		return fmt.Errorf("%w: block %d starts with %x", ErrWrong, o.block, p[:16])
	}
	return nil
}

// threadCPUNs is the CPU time of the calling thread.
func threadCPUNs() int64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) != nil {
		return 0 // cannot fail for this clock, see clock_gettime(2)
	}
	return ts.Nano()
}
