package projcache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/netbed"
	"github.com/nexuscore-labs/nexus/frame"
)

// Over a real pair of interfaces: raw packets, valid and hostile, and what comes
// back of them.

var beds atomic.Uint64

func newBed(t testing.TB) *netbed.Bed {
	t.Helper()
	if unix.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	b, err := netbed.New(netbed.Options{Name: fmt.Sprintf("nexus-%d-p%d", os.Getpid(), beds.Add(1))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := b.Client.PassThrough(); err != nil {
		t.Fatal(err)
	}
	return b
}

func attachTo(t testing.TB, b *netbed.Bed, c *Cache, p *Program) *Attachment {
	t.Helper()
	var a *Attachment
	err := b.Server.Run(func() (err error) {
		a, err = c.Attach(p, b.Server.Index)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// wire is a raw socket on the client's end.
type wire struct {
	t  testing.TB
	fd int
}

func openWire(t testing.TB, b *netbed.Bed) *wire {
	t.Helper()
	w := &wire{t: t}
	err := b.Client.Run(func() (err error) {
		all := int(binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}))
		if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all); err != nil {
			return err
		}
		if err = unix.SetsockoptInt(w.fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1); err != nil {
			return err
		}
		return unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: b.Client.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(w.fd) })
	return w
}

// next returns the next packet from the server's end. The kernel takes the outer
// VLAN tag out of the bytes and tells it beside them.
func (w *wire) next() []byte {
	w.t.Helper()
	buf, control := make([]byte, 16<<10), make([]byte, 256)
	for {
		fds := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 5000); n == 0 && err == nil {
			w.t.Fatal("nothing came back for 5 s")
		}
		n, controlLen, _, from, err := unix.Recvmsg(w.fd, buf, control, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		if link, ok := from.(*unix.SockaddrLinklayer); !ok || link.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		packet := bytes.Clone(buf[:n])
		messages, err := unix.ParseSocketControlMessage(control[:controlLen])
		if err != nil {
			w.t.Fatal(err)
		}
		for _, m := range messages {
			// struct tpacket_auxdata: status at 0, the tag at 16 and its type at 18.
			if m.Header.Type == unix.PACKET_AUXDATA && binary.NativeEndian.Uint32(m.Data)&unix.TP_STATUS_VLAN_VALID != 0 {
				tag := binary.BigEndian.AppendUint16(nil, binary.NativeEndian.Uint16(m.Data[18:]))
				tag = binary.BigEndian.AppendUint16(tag, binary.NativeEndian.Uint16(m.Data[16:]))
				packet = append(packet[:12:12], append(tag, packet[12:]...)...)
			}
		}
		return packet
	}
}

// answers sends a packet, then one that is surely answered, and returns what the
// service sent before that answer.
func (w *wire) answers(packet, marker []byte) [][]byte {
	w.t.Helper()
	for _, p := range [][]byte{packet, marker} {
		if _, err := unix.Write(w.fd, p); err != nil {
			w.t.Fatal(err)
		}
	}
	var all [][]byte
	for {
		p := w.next()
		if i := bytes.Index(p, markerID); i > 0 {
			return all
		}
		if isFromService(p) {
			all = append(all, p)
		}
	}
}

var markerID = []byte{1, 0xde, 0xad, 0xbe, 0xef, 0xde, 0xad, 1}

func markerPacket() []byte {
	b := plain(1, 0).packet()
	copy(b[14+20+8+8:], markerID)
	return b
}

// isFromService leaves out what the server's stack says to packets that passed.
func isFromService(p []byte) bool {
	for at := 12; at+4 < len(p); at += 4 {
		switch binary.BigEndian.Uint16(p[at:]) {
		case 0x0800:
			return len(p) > at+24 && p[at+2+9] == 17 && binary.BigEndian.Uint16(p[at+2+20:]) == service.Port
		case 0x86dd:
			return len(p) > at+44 && p[at+2+6] == 17 && binary.BigEndian.Uint16(p[at+2+40:]) == service.Port
		case 0x8100, 0x88a8:
		default:
			return false
		}
	}
	return false
}

func TestWireEqualsGo(t *testing.T) {
	c := openCache(t, Options{Slots: 256, Tenants: 5})
	fill(t, c)
	b := newBed(t)
	a := attachTo(t, b, c, loadProgram(t, c))
	t.Cleanup(func() { a.Close() })
	if a.Mode != ModeNative {
		t.Logf("attached %s: %s", a.Mode, a.Why)
	}
	w := openWire(t, b)
	random := rand.New(rand.NewPCG(11, 11))
	answered := 0
	for range 3000 {
		packet := draw(random)
		if len(packet) < 15 {
			continue // the sender's kernel refuses it
		}
		want, outcome := Answer(packet, service, c)
		got := w.answers(packet, markerPacket())
		if outcome != Answered {
			if len(got) > 0 {
				t.Fatalf("packet %x (%s): %x came back", packet, outcome, got[0])
			}
			continue
		}
		answered++
		if len(got) != 1 || !bytes.Equal(got[0], want) {
			t.Fatalf("packet %x:\ngot  %x\nwant %x", packet, got, want)
		}
	}
	if answered < 100 {
		t.Errorf("only %d packets were answered", answered)
	}
}

// Behind the driver the same program gives the same answers. Such a program sees
// no room behind a packet but what the kernel makes.
func TestGenericMode(t *testing.T) {
	c := openCache(t, Options{Slots: 256, Tenants: 5})
	fill(t, c)
	b := newBed(t)
	p := loadProgram(t, c)
	err := b.Server.Run(func() error {
		a, err := attachXDPGeneric(p.program, b.Server.Index, errors.New("a test wants it so"))
		if err != nil {
			return err
		}
		t.Cleanup(func() { a.Close() })
		if mode, err := modeOf(b.Server.Index); err != nil || mode != ModeGeneric || a.Mode != ModeGeneric || a.Why == "" {
			t.Errorf("attached %+v, the kernel says %s, error %v", a, mode, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w := openWire(t, b)
	packet := plain(2, 0).packet()
	want, _ := Answer(packet, service, c)
	if got := w.answers(packet, markerPacket()); len(got) != 1 || !bytes.Equal(got[0], want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

// A program takes another's place while requests flow, again and again, and every
// request is answered; a process that ends takes nothing with it.
func TestReloadLosesNothing(t *testing.T) {
	pins := mountPins(t)
	options := Options{Slots: 64, Tenants: 5, Pins: pins}
	b := newBed(t)
	first := openCache(t, options)
	fill(t, first)
	if a := attachTo(t, b, first, loadProgram(t, first)); a.Replaced {
		t.Error("the first program replaced another")
	}
	if err := first.Close(); err != nil { // the loader ends
		t.Fatal(err)
	}
	stop := make(chan struct{})
	asked := make(chan error)
	var answered atomic.Uint64
	go func() { asked <- askUntil(b, stop, &answered) }()
	for range 20 {
		c, err := Open(options)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Stats().Values; got != 4*len(sizes) {
			t.Errorf("%d values outlived the loader, want %d", got, 4*len(sizes))
		}
		before := answered.Load()
		if a := attachTo(t, b, c, loadProgram(t, c)); !a.Replaced {
			t.Error("the program did not replace its predecessor")
		}
		for answered.Load() < before+20 {
			select {
			case err := <-asked:
				t.Fatal(err)
			case <-time.After(time.Millisecond):
			}
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-asked; err != nil {
		t.Error(err)
	}
}

// askUntil sends one request after the other; nobody else would answer them.
func askUntil(b *netbed.Bed, stop chan struct{}, answered *atomic.Uint64) error {
	return b.Client.Run(func() error {
		conn, err := net.Dial("udp", "10.77.0.1:7010")
		if err != nil {
			return err
		}
		defer conn.Close()
		buf := make([]byte, 8<<10)
		for id := uint64(1); ; id++ {
			select {
			case <-stop:
				return nil
			default:
			}
			request := frame.Frame{Kind: frame.KindGet, Flags: frame.FlagUnchecked, Tenant: 3, ID: id, Body: append([]byte{3, 0, 0, 0}, make([]byte, 400)...)}
			if _, err := conn.Write(frame.Append(nil, request)); err != nil {
				return err
			}
			if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
				return err
			}
			n, err := conn.Read(buf)
			if err != nil {
				return fmt.Errorf("request %d was lost: %w", id, err)
			}
			if f, err := frame.ParseDatagram(buf[:n]); err != nil || f.ID != id || len(f.Body) != BodyHeaderLen+sizes[3] {
				return fmt.Errorf("request %d: %+v, error %w", id, f, err)
			}
			answered.Add(1)
		}
	})
}
