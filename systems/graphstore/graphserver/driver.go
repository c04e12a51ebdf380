package graphserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/cilium/ebpf/perf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/nexuscore-labs/nexus/bpf/datagram"
	"github.com/nexuscore-labs/nexus/bpf/tenantroute"
	"github.com/nexuscore-labs/nexus/bpf/xsk"
	"github.com/nexuscore-labs/nexus/frame"
)

// Driver takes queries from the network driver, where an XDP program has found
// their tenants' slots. What it doesn't hand over is served from the socket.
type Driver struct {
	Device  string // interface that requests arrive on, in this process's namespace
	Way     string // tenantroute.WaySocket, WayRing or WayPerf
	Tenants int    // tenants 0 to Tenants-1 have the slots of their numbers
}

const (
	socketFrames = 4096    // of an AF_XDP socket, each way
	perfRingLen  = 1 << 20 // bytes, for each CPU
	driverBatch  = 64      // packets that are answered before answers leave
	waitMax      = 50 * time.Millisecond
	ethernetLen  = 14 + 2*4 // with two VLAN tags
)

// driver is one running Driver.
type driver struct {
	server *server
	router *tenantroute.Router
	// service is what the program looks for.
	service datagram.Service
	// replyLenMax is the longest packet that the interface sends.
	replyLenMax int
	outcomes    [tenantroute.Outcomes]uint64
}

// serveDriver serves the socket, and the program beside it.
func (s *server) serveDriver(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := &driver{server: s}
	ended := make(chan error, 1)
	started := false
	err := s.serveDatagrams(ctx, func(packets net.PacketConn) error {
		take, err := d.open(packets)
		if err != nil {
			return err
		}
		started = true
		go func() {
			defer cancel()
			ended <- take(ctx)
		}()
		return s.ready(packets)
	})
	cancel()
	if started {
		err = errors.Join(err, <-ended)
	}
	return errors.Join(err, d.close())
}

// open loads and attaches the program, and returns what takes its packets.
func (d *driver) open(packets net.PacketConn) (func(context.Context) error, error) {
	o := d.server.opts.Driver
	device, err := net.InterfaceByName(o.Device)
	if err != nil {
		return nil, fmt.Errorf("find the interface of queries: %w", err)
	}
	d.replyLenMax = min(xsk.PacketLenMax, device.MTU+ethernetLen)
	at, err := netip.ParseAddrPort(packets.LocalAddr().String())
	if err != nil {
		return nil, fmt.Errorf("where queries are addressed to: %w", err)
	}
	d.service = datagram.Service{Port: at.Port()}
	if ip := at.Addr().Unmap(); ip.Is4() {
		d.service.IPv4 = ip
	}
	if d.router, err = tenantroute.Open(o.Way, d.service); err != nil {
		return nil, err
	}
	for tenant := range uint32(o.Tenants) {
		if err := d.router.SetRoute(tenant, tenant); err != nil {
			return nil, err
		}
	}
	take, err := d.taker(device.Index, newReplies(packets))
	if err != nil {
		return nil, err
	}
	return take, d.router.Attach(device.Index)
}

func (d *driver) taker(ifindex int, back *replies) (func(context.Context) error, error) {
	switch d.router.Way {
	case tenantroute.WaySocket:
		socket, err := xsk.Open(xsk.Options{Ifindex: ifindex, Frames: socketFrames})
		if err != nil {
			return nil, err
		}
		if err := d.router.SetSocket(0, socket.FD()); err != nil {
			return nil, errors.Join(err, socket.Close())
		}
		return func(ctx context.Context) error { return errors.Join(d.takeSocket(ctx, socket), socket.Close()) }, nil
	case tenantroute.WayRing:
		ring, err := ringbuf.NewReader(d.router.Ring())
		if err != nil {
			return nil, fmt.Errorf("open the ring buffer: %w", err)
		}
		var record ringbuf.Record
		return d.takeSamples(back, func(deadline time.Time) ([]byte, error) {
			ring.SetDeadline(deadline)
			err := ring.ReadInto(&record)
			return record.RawSample, err
		}, ring.Close), nil
	}
	events, err := perf.NewReader(d.router.Events(), perfRingLen)
	if err != nil {
		return nil, fmt.Errorf("open the perf buffer: %w", err)
	}
	var record perf.Record
	return d.takeSamples(back, func(deadline time.Time) ([]byte, error) {
		events.SetDeadline(deadline)
		err := events.ReadInto(&record)
		d.server.stats.Lost.Add(record.LostSamples)
		return record.RawSample, err
	}, events.Close), nil
}

// takeSocket answers what arrives on the AF_XDP socket, on the socket.
func (d *driver) takeSocket(ctx context.Context, socket *xsk.Socket) error {
	batch := make([]xsk.Packet, driverBatch)
	for ctx.Err() == nil {
		n := socket.Receive(batch)
		if n == 0 {
			if err := socket.Wait(waitMax); err != nil {
				return err
			}
			continue
		}
		for _, p := range batch[:n] {
			if err := d.answerOn(socket, p); err != nil {
				return err
			}
		}
		socket.Release(batch[:n])
		if err := socket.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// answerOn composes the answer to one packet where it is sent from.
func (d *driver) answerOn(socket *xsk.Socket, p xsk.Packet) error {
	slot, ok := tenantroute.ParseSlot(socket.Meta(p, tenantroute.HandedLen))
	parts, request, err := d.request(p.Data)
	if !ok || err != nil {
		d.server.stats.Malformed.Add(1)
		return nil
	}
	request.Tenant = slot
	compose := func(room []byte) int {
		prefix := datagram.ReplyLen(parts, 0)
		out := d.server.answerWithin(room[:prefix], request, d.replyLenMax-prefix)
		datagram.Reply(out, parts)
		return len(out)
	}
	for range 2 {
		if socket.Send(compose) {
			return nil
		}
		if err := socket.Flush(); err != nil {
			return err
		}
	}
	d.server.stats.SendErrors.Add(1)
	return nil
}

var errHanded = errors.New("graphserver: no query was handed over")

// request reads the frame of a packet. The program has looked at the headers, not
// at the checksum.
func (d *driver) request(packet []byte) (datagram.Datagram, frame.Frame, error) {
	parts, refusal := datagram.Parse(packet, d.service)
	if refusal != datagram.Taken {
		return parts, frame.Frame{}, errHanded
	}
	f, err := frame.ParseDatagram(parts.Payload)
	return parts, f, err
}

// takeSamples answers what a ring carries from the socket: those buffers have no
// way back.
func (d *driver) takeSamples(back *replies, read func(deadline time.Time) ([]byte, error), closeReader func() error) func(context.Context) error {
	return func(ctx context.Context) (err error) {
		defer func() { err = errors.Join(err, closeReader()) }()
		for ctx.Err() == nil {
			sample, err := read(time.Now().Add(waitMax))
			for n := 1; err == nil; n++ {
				d.answerSample(back, sample)
				if n == driverBatch {
					break
				}
				sample, err = read(time.Time{}.Add(1)) // no more waiting
			}
			back.flush(&d.server.stats)
			if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				return fmt.Errorf("read what the driver handed over: %w", err)
			}
		}
		return nil
	}
}

func (d *driver) answerSample(back *replies, sample []byte) {
	if len(sample) == 0 {
		return // of a perf buffer's lost samples
	}
	handed, packet, err := tenantroute.ParseHanded(sample)
	if err == nil {
		var parts datagram.Datagram
		var request frame.Frame
		if parts, request, err = d.request(packet); err == nil {
			request.Tenant = handed.Slot
			back.add(parts, func(dst []byte) []byte { return d.server.answerDatagram(dst, request) })
			return
		}
	}
	d.server.stats.Malformed.Add(1)
}

// close takes the program off and keeps its counters.
func (d *driver) close() error {
	if d.router == nil {
		return nil
	}
	var err error
	d.outcomes, err = d.router.Counts()
	d.report()
	return errors.Join(err, d.router.Close())
}

func (d *driver) report() {
	if d.server.opts.Stat == nil {
		return
	}
	refused := uint64(0)
	for o, n := range d.outcomes {
		if o := tenantroute.Outcome(o); o != tenantroute.HandedOver {
			refused += n
		}
	}
	d.server.opts.Stat("driver_handed_count", float64(d.outcomes[tenantroute.HandedOver]))
	d.server.opts.Stat("driver_passed_count", float64(refused))
	d.server.opts.Stat("driver_no_room_count", float64(d.outcomes[tenantroute.NoRoom]))
	d.server.opts.Stat("driver_lost_count", float64(d.server.stats.Lost.Load()))
	native := 0.0
	if d.router.Mode == "native" {
		native = 1
	}
	d.server.opts.Stat("driver_native_count", native)
}
