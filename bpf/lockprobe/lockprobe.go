// Package lockprobe measures how long the threads of one cgroup or process wait
// for read-write semaphores and mutexes, which of these waits are for the inode
// lock of the file being written, and how often writers overtake a waiter.
//
// It stands on the tracepoints lock:contention_begin and contention_end (Linux
// 5.19). A wait begins after optimistic spinning: who gets the lock by spinning
// or stealing has not waited, and shows as an overtaker only.
package lockprobe

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/probe"
)

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -no-global-types -target amd64,arm64 -go-package lockprobe object lock.bpf.c -- -I../headers -O2 -g -Wall -Werror -mcpu=v3

// Of lock.h.
const (
	slotRwsemWrite = iota
	slotRwsemRead
	slotMutex
	slotInode
	slotPosition
	slotOvertakings
)

// Of lock.h.
const (
	counterWrites = iota
	counterOvertaken
	counterSampled
	counterSampledOvertaken
	counterSampledOvertakings
	counterLostEntry
	counterLostWait
	counterLostRace
)

// Labels of the histograms. InodeLock is part of RwsemWrite and PositionLock of
// Mutex; Overtakings has the unit count, the others ns.
const (
	RwsemWrite   = "rwsem_write"   // any read-write semaphore, taken for write
	RwsemRead    = "rwsem_read"    // any read-write semaphore, taken for read
	Mutex        = "mutex"         // any mutex
	InodeLock    = "inode_lock"    // i_rwsem of the file that the waiter is writing
	PositionLock = "position_lock" // f_pos_lock of the open file that the waiter is writing through
	Overtakings  = "overtakings"   // of one sampled waiter for an inode lock
)

// Labels of the counters. A wait for the inode lock is overtaken if a write to
// the same file that entered the kernel after the wait began has returned from
// it before the wait ended. That is a lower bound: who was already in the kernel
// when the wait began, or still is when it ends, is not counted.
const (
	Writes             = "writes"              // write calls that wrote something
	Overtaken          = "overtaken"           // waits for an inode lock that were overtaken, of all in the InodeLock histogram
	Sampled            = "sampled"             // waits whose overtakings were counted, one at a time for each inode
	SampledOvertaken   = "sampled_overtaken"   // of Sampled, those overtaken
	SampledOvertakings = "sampled_overtakings" // over Sampled
	Lost               = "lost"                // events that could not be counted
	Skipped            = "skipped"             // events on a CPU inside one of the programs: spin locks and interrupts
)

var labels = []probe.Label{
	{Slot: slotRwsemWrite, Probe: name, Label: RwsemWrite, Unit: "ns"},
	{Slot: slotRwsemRead, Probe: name, Label: RwsemRead, Unit: "ns"},
	{Slot: slotMutex, Probe: name, Label: Mutex, Unit: "ns"},
	{Slot: slotInode, Probe: name, Label: InodeLock, Unit: "ns"},
	{Slot: slotPosition, Probe: name, Label: PositionLock, Unit: "ns"},
	{Slot: slotOvertakings, Probe: name, Label: Overtakings, Unit: "count"},
}

const name = "lock"

// anyCgroup switches the probe on where the process decides, not the cgroup. No
// cgroup has this id.
const anyCgroup = ^uint64(0)

// Probe is the attached probe. See probe.Probe.
type Probe struct {
	*probe.Core
}

// Open loads and attaches the probe, switched off. The error wraps
// attach.ErrNoRung where the kernel lacks the tracepoints or refuses programs.
func Open(opts probe.Options) (*Probe, error) {
	spec, err := loadObject()
	if err != nil {
		return nil, fmt.Errorf("parse the lock object: %w", err)
	}
	numbers := []uint32{unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_WRITEV, unix.SYS_PWRITEV, unix.SYS_PWRITEV2}
	if err := spec.Variables["write_nrs"].Set(numbers); err != nil {
		return nil, fmt.Errorf("set the system call numbers of the lock probe: %w", err)
	}
	attached, err := attach.Climb(spec, []attach.Candidate{
		{Rung: attach.TpBTF, Programs: programs("tp_btf")},
		{Rung: attach.RawTracepoint, Programs: programs("raw_tp")},
	}, opts.Attach())
	if err != nil {
		return nil, fmt.Errorf("attach the lock probe: %w", err)
	}
	core, err := probe.NewCore(name, attached)
	if err != nil {
		return nil, errors.Join(err, attached.Close())
	}
	return &Probe{Core: core}, nil
}

func programs(rung string) []string {
	return []string{"enter_" + rung, "exit_" + rung, "begin_" + rung, "end_" + rung}
}

// Start counts the waits of one cgroup of the v2 hierarchy.
func (p *Probe) Start(cgroupID uint64) error {
	return p.start(cgroupID, 0, 0, 0)
}

// StartProcess counts the waits of the calling process, all threads.
func (p *Probe) StartProcess() error {
	var ns unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &ns); err != nil {
		return fmt.Errorf("stat the pid namespace: %w", err)
	}
	return p.start(anyCgroup, ns.Dev, ns.Ino, uint32(os.Getpid()))
}

func (p *Probe) start(cgroupID, dev, ino uint64, tgid uint32) error {
	if err := p.forgetQueues(); err != nil {
		return err
	}
	variables := p.Attached().Collection.Variables
	for _, v := range []struct {
		name  string
		value any
	}{{"pidns_dev", dev}, {"pidns_ino", ino}, {"target_tgid", tgid}} {
		if err := variables[v.name].Set(v.value); err != nil {
			return fmt.Errorf("set %s of the lock probe: %w", v.name, err)
		}
	}
	return p.Core.Start(cgroupID)
}

// forgetQueues empties the map of inode locks, which a sample may have been
// left open in.
func (p *Probe) forgetQueues() error {
	queues := p.Attached().Collection.Maps["queues"]
	var locks []uint64
	var lock uint64
	var value []byte
	entries := queues.Iterate()
	for entries.Next(&lock, &value) {
		locks = append(locks, lock)
	}
	if err := entries.Err(); err != nil {
		return fmt.Errorf("list the inode locks of the lock probe: %w", err)
	}
	for _, lock := range locks {
		if err := queues.Delete(lock); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget an inode lock of the lock probe: %w", err)
		}
	}
	return nil
}

// Read returns the histograms and counters named above; a histogram that is
// empty is left out.
func (p *Probe) Read() (probe.Reading, error) {
	histograms, err := p.Histograms(labels)
	if err != nil {
		return probe.Reading{}, err
	}
	counts, err := p.Counts()
	if err != nil {
		return probe.Reading{}, err
	}
	skipped, err := p.Skipped()
	if err != nil {
		return probe.Reading{}, err
	}
	reading := probe.Reading{Histograms: histograms}
	for _, c := range []struct {
		label string
		value uint64
	}{
		{Writes, counts[counterWrites]},
		{Overtaken, counts[counterOvertaken]},
		{Sampled, counts[counterSampled]},
		{SampledOvertaken, counts[counterSampledOvertaken]},
		{SampledOvertakings, counts[counterSampledOvertakings]},
		{Lost, counts[counterLostEntry] + counts[counterLostWait] + counts[counterLostRace]},
		{Skipped, skipped},
	} {
		reading.Counters = append(reading.Counters, probe.Counter{Probe: name, Label: c.label, Value: float64(c.value), Unit: "count"})
	}
	return reading, nil
}
