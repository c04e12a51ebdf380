// Package tenantroute hands queries over from within the network driver: an XDP
// program parses the packet, finds the slot of its tenant's instance in a map, and
// passes packet and slot to user space by one of three ways, so that they can be
// compared: an AF_XDP socket, a BPF ring buffer, a perf buffer. What it doesn't
// hand over goes to the stack as it came, and is counted.
//
// Routes may be changed while packets arrive.
package tenantroute

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/datagram"
)

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -no-global-types -target bpfel -go-package tenantroute object tenantroute.bpf.c -- -I../headers -O2 -g -Wall -Werror -mcpu=v3

// Ways to hand packets over.
const (
	WaySocket = "socket" // AF_XDP
	WayRing   = "ring"   // BPF ring buffer
	WayPerf   = "perf"   // perf buffer
)

// programs by way.
var programs = map[string]string{WaySocket: "route_socket", WayRing: "route_ring", WayPerf: "route_perf"}

const (
	// PacketLenMax is the longest packet that is handed over, in bytes.
	PacketLenMax = 512
	// HandedLen is what precedes each packet, see Handed.
	HandedLen = 16
	// tenantsMax is the size of the table of routes.
	tenantsMax = 65536
)

// Handed is what a packet is handed over with.
type Handed struct {
	Slot    uint32
	TakenNs uint64 // when the program had it, CLOCK_MONOTONIC
}

// ErrHanded says that bytes are not what a program hands over.
var ErrHanded = errors.New("tenantroute: not a packet that was handed over")

// ParseHanded takes apart what a ring or perf buffer carries: Handed, the packet,
// and perhaps padding. The packet aliases src.
func ParseHanded(src []byte) (Handed, []byte, error) {
	if len(src) < HandedLen {
		return Handed{}, nil, fmt.Errorf("%w: %d bytes", ErrHanded, len(src))
	}
	n := binary.NativeEndian.Uint32(src[4:])
	if n > PacketLenMax || uint64(n) > uint64(len(src)-HandedLen) {
		return Handed{}, nil, fmt.Errorf("%w: a packet of %d in %d bytes", ErrHanded, n, len(src))
	}
	h := Handed{Slot: binary.NativeEndian.Uint32(src), TakenNs: binary.NativeEndian.Uint64(src[8:])}
	return h, src[HandedLen : HandedLen+n], nil
}

// ParseSlot reads the slot from the HandedLen bytes in front of a packet.
func ParseSlot(meta []byte) (slot uint32, ok bool) {
	if len(meta) != HandedLen {
		return 0, false
	}
	return binary.NativeEndian.Uint32(meta), true
}

// Router is a loaded program with its maps.
type Router struct {
	Way        string
	Mode       string // native or generic; empty: not attached
	Why        string // it is generic: the driver's refusal
	service    datagram.Service
	collection *ebpf.Collection
	program    *ebpf.Program
	link       link.Link
}

// Open loads the program of a way. It needs CAP_BPF and CAP_NET_ADMIN (or root)
// and Linux 5.18 or later.
func Open(way string, service datagram.Service) (*Router, error) {
	name, known := programs[way]
	if !known {
		return nil, fmt.Errorf("tenantroute: there is no way %q", way)
	}
	spec, err := loadObject()
	if err != nil {
		return nil, fmt.Errorf("tenantroute: read the programs: %w", err)
	}
	if err := service.Set(spec); err != nil {
		return nil, fmt.Errorf("tenantroute: %w", err)
	}
	for other := range spec.Programs {
		if other != name {
			delete(spec.Programs, other)
		}
	}
	collection, err := ebpf.NewCollection(spec)
	if errors.Is(err, unix.EPERM) {
		err = unix.EPERM
	}
	if err != nil {
		return nil, fmt.Errorf("tenantroute: load the program: %w", err)
	}
	return &Router{Way: way, service: service, collection: collection, program: collection.Programs[name]}, nil
}

// Attach puts the program on the interface with the given index of the calling
// thread's network namespace: in the driver, or behind it where the driver can't.
func (r *Router) Attach(ifindex int) error {
	options := link.XDPOptions{Program: r.program, Interface: ifindex, Flags: link.XDPDriverMode}
	l, refusal := link.AttachXDP(options)
	if refusal == nil {
		r.link, r.Mode = l, "native"
		return nil
	}
	if errors.Is(refusal, unix.EBUSY) || errors.Is(refusal, unix.EEXIST) {
		return fmt.Errorf("tenantroute: interface %d is served by another program: %w", ifindex, refusal)
	}
	options.Flags = link.XDPGenericMode
	l, err := link.AttachXDP(options)
	if err != nil {
		return fmt.Errorf("tenantroute: attach to interface %d: native: %w; generic: %w", ifindex, refusal, err)
	}
	r.link, r.Mode, r.Why = l, "generic", refusal.Error()
	return nil
}

// SetRoute leads a tenant's queries to a slot from now on.
func (r *Router) SetRoute(tenant, slot uint32) error {
	if err := r.collection.Maps["routes"].Put(tenant, slot); err != nil {
		return fmt.Errorf("tenantroute: route tenant %d (at most %d tenants): %w", tenant, tenantsMax, err)
	}
	return nil
}

// RemoveRoute lets a tenant's queries go to the stack. One without a route is no error.
func (r *Router) RemoveRoute(tenant uint32) error {
	err := r.collection.Maps["routes"].Delete(tenant)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("tenantroute: remove the route of tenant %d: %w", tenant, err)
	}
	return nil
}

// Slot is where a tenant's queries are led.
func (r *Router) Slot(tenant uint32) (slot uint32, routed bool) {
	err := r.collection.Maps["routes"].Lookup(tenant, &slot)
	return slot, err == nil
}

// SetSocket hands packets of a receive queue to an AF_XDP socket.
func (r *Router) SetSocket(queue uint32, fd int) error {
	if err := r.collection.Maps["sockets"].Put(queue, uint32(fd)); err != nil {
		return fmt.Errorf("tenantroute: give queue %d a socket: %w", queue, err)
	}
	return nil
}

// Ring and Events are the maps that the other two ways are read from.
func (r *Router) Ring() *ebpf.Map   { return r.collection.Maps["ring"] }
func (r *Router) Events() *ebpf.Map { return r.collection.Maps["events"] }

// Run gives the program one packet (BPF_PROG_TEST_RUN) and returns its action and
// the packet as it left.
func (r *Router) Run(packet []byte) (action uint32, out []byte, err error) {
	options := ebpf.RunOptions{Data: packet, DataOut: make([]byte, len(packet)+256)}
	action, err = r.program.Run(&options)
	if err != nil {
		return 0, nil, fmt.Errorf("tenantroute: run the program: %w", err)
	}
	return action, options.DataOut, nil
}

// Cost runs one packet over and over, outside of any driver, and returns the time
// of one run. What is handed over piles up: empty the ring, or let it be full.
func (r *Router) Cost(packet []byte, repeat int) (time.Duration, error) {
	_, each, err := r.program.Benchmark(packet, repeat, nil)
	if err != nil {
		return 0, fmt.Errorf("tenantroute: run the program %d times: %w", repeat, err)
	}
	return each, nil
}

// Counts are packets by outcome since Open, over all CPUs.
func (r *Router) Counts() ([Outcomes]uint64, error) {
	var sum [Outcomes]uint64
	var perCPU [][Outcomes]uint64
	if err := r.collection.Maps["outcomes"].Lookup(uint32(0), &perCPU); err != nil {
		return sum, fmt.Errorf("tenantroute: read the counters: %w", err)
	}
	for _, one := range perCPU {
		for o, n := range one {
			sum[o] += n
		}
	}
	return sum, nil
}

// Close takes the program off and unloads it.
func (r *Router) Close() error {
	var err error
	if r.link != nil {
		err = r.link.Close()
	}
	r.collection.Close()
	return err
}
