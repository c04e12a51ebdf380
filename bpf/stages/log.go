// Package stages computes where the time of a request went from a log of packets
// and of the contender's threads: the times at which a request's bytes passed the
// edges of the sockets, and between them, inside the contender, the critical path
// backwards along who woke whom.
//
// It works on recorded events alone and knows nothing of the kernel.
package stages

import (
	"cmp"
	"slices"
)

// EventKind says what happened; the numbers are those of stageprobe/stage.h.
type EventKind uint8

// Kinds of events. Who is a thread up to Wake, and the client's port from
// ClientTx on.
const (
	Out  EventKind = 1 + iota // a thread leaves its CPU; Value: the system call it is in
	In                        // a thread gets a CPU
	Wake                      // a thread becomes runnable; Other: the thread that woke it
	ClientTx
	ServerRx
	ServerTx // Other: the thread that sent
	ClientRx
)

// Flags of Out.
const (
	Runnable        = 1 << iota // preempted, or gave way
	Uninterruptible             // waits for a disk or a kernel lock
	IOWait
	Dead
)

// Flags of packets.
const (
	Syn = 1 << iota
	Datagram
)

// Contexts of an event. From Softirq on, the soft interrupt's number is added.
const (
	Thread  = 0
	Timer   = 1
	Hardirq = 2
	Softirq = 3
	// The soft interrupts of linux/interrupt.h that wake-ups come from.
	TimerSoftirq   = Softirq + 1
	NetRx          = Softirq + 3
	Block          = Softirq + 4
	HrtimerSoftirq = Softirq + 8
)

// Event is one entry of the log.
type Event struct {
	Ns      int64 // CLOCK_MONOTONIC
	Kind    EventKind
	Flags   uint8
	Context uint8
	Who     uint32
	Value   uint64 // of packets: TCP sequence number of the first byte, or the frame's id
	Other   uint32 // a thread of the contender; 0: none
	Len     uint32 // of packets: payload, bytes; of Out: how long the thread has run so far, ns, modulo 1<<32
}

// Log is what was recorded between the probe's start and stop.
type Log struct {
	Events   []Event // in the order of their times
	Lost     uint64  // events that found no room: the last ones
	Unparsed uint64  // datagrams that held no frame
}

// Sort puts the events into the order of their times: CPUs take places in the
// log in another order than they read the clock.
func (l *Log) Sort() {
	slices.SortStableFunc(l.Events, func(a, b Event) int { return cmp.Compare(a.Ns, b.Ns) })
}
