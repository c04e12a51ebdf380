package tenantroute

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/datagram"
	"github.com/nexuscore-labs/nexus/bpf/netbed"
	"github.com/nexuscore-labs/nexus/bpf/xsk"
	"github.com/nexuscore-labs/nexus/frame"
)

// Over a real pair of interfaces: queries arrive on an AF_XDP socket with their
// slot, answers composed there reach the client's UDP socket, and what is not
// handed over reaches the server's.

var beds atomic.Uint64

func newBed(t testing.TB) *netbed.Bed {
	t.Helper()
	if unix.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	b, err := netbed.New(netbed.Options{Name: fmt.Sprintf("nexus-%d-t%d", os.Getpid(), beds.Add(1))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func listen(t testing.TB, end *netbed.End, address netip.AddrPort) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	err := end.Run(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(address))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// echoServer answers each packet that arrives on the socket with its slot.
func echoServer(t testing.TB, s *xsk.Socket, stop *atomic.Bool) {
	batch := make([]xsk.Packet, 32)
	for !stop.Load() {
		n := s.Receive(batch)
		if n == 0 {
			if err := s.Wait(10 * time.Millisecond); err != nil {
				t.Error(err)
				return
			}
			continue
		}
		for _, p := range batch[:n] {
			handed, packet, err := ParseHanded(append(bytes.Clone(s.Meta(p, HandedLen)), p.Data...))
			d, refusal := datagram.Parse(packet, service)
			if err != nil || refusal != datagram.Taken {
				t.Errorf("handed over %x: %v, refusal %d", p.Data, err, refusal)
				continue
			}
			payload := fmt.Appendf(nil, "slot %d, %d bytes", handed.Slot, len(d.Payload))
			s.Send(func(frame []byte) int {
				out := frame[:datagram.ReplyLen(d, len(payload))]
				copy(out[len(out)-len(payload):], payload)
				datagram.Reply(out, d)
				return len(out)
			})
		}
		if err := s.Flush(); err != nil {
			t.Error(err)
		}
		s.Release(batch[:n])
	}
}

func TestSocketOverTheWire(t *testing.T) {
	b := newBed(t)
	r := open(t, WaySocket)
	var socket *xsk.Socket
	err := b.Server.Run(func() (err error) {
		if err = r.Attach(b.Server.Index); err != nil {
			return err
		}
		socket, err = xsk.Open(xsk.Options{Ifindex: b.Server.Index, Frames: 256})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if err := r.SetSocket(0, socket.FD()); err != nil {
		t.Fatal(err)
	}
	t.Logf("attached %s %s, zero copy %v", r.Mode, r.Why, socket.ZeroCopy())
	var stop atomic.Bool
	ended := make(chan struct{})
	go func() { defer close(ended); echoServer(t, socket, &stop) }()
	defer func() { stop.Store(true); <-ended }()

	stack := listen(t, &b.Server, netip.AddrPortFrom(server4, service.Port))
	for _, address := range [][2]netip.Addr{{client4, server4}, {client6, server6}} {
		client := listen(t, &b.Client, netip.AddrPortFrom(address[0], 0))
		to := netip.AddrPortFrom(address[1], service.Port)
		for i := range 1500 { // more than there are frames
			tenant := uint32(i % 5)
			request := frame.Append(nil, frame.Frame{Kind: frame.KindQuery, Tenant: tenant, ID: uint64(i), Body: make([]byte, i%300)})
			if _, err := client.WriteToUDPAddrPort(request, to); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 2000)
			n, _, err := client.ReadFromUDPAddrPort(buf)
			if want := fmt.Sprintf("slot %d, %d bytes", 100+tenant, len(request)); err != nil || string(buf[:n]) != want {
				t.Fatalf("request %d: %q, error %v, want %q", i, buf[:n], err, want)
			}
		}
	}
	// An unknown tenant's goes to the stack.
	client := listen(t, &b.Client, netip.AddrPortFrom(client4, 0))
	request := frame.Append(nil, frame.Frame{Kind: frame.KindQuery, Tenant: 7})
	if _, err := client.WriteToUDPAddrPort(request, netip.AddrPortFrom(server4, service.Port)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2000)
	n, _, err := stack.ReadFromUDPAddrPort(buf)
	if err != nil || !bytes.Equal(buf[:n], request) {
		t.Fatalf("the stack's socket got %x, error %v", buf[:n], err)
	}
	counts, err := r.Counts()
	if err != nil || counts[HandedOver] != 3000 || counts[Unrouted] != 1 || counts[NoRoom] != 0 {
		t.Errorf("counts %v, error %v", counts, err)
	}
	if stats, err := socket.Stats(); err != nil || stats.Rx_dropped != 0 || stats.Rx_invalid_descs != 0 || stats.Tx_invalid_descs != 0 {
		t.Errorf("stats %+v, error %v", stats, err)
	}
}

func TestSocketRefuses(t *testing.T) {
	for _, frames := range []int{0, 63, 100, 1 << 20} {
		if s, err := xsk.Open(xsk.Options{Frames: frames}); err == nil {
			s.Close()
			t.Errorf("%d frames were accepted", frames)
		}
	}
	if s, err := xsk.Open(xsk.Options{Ifindex: 1 << 20, Frames: 64}); err == nil {
		s.Close()
		t.Error("an interface that isn't there was accepted")
	}
}
