package tenantroute

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf/perf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/bpftest"
	"github.com/nexuscore-labs/nexus/bpf/datagram"
	"github.com/nexuscore-labs/nexus/frame"
)

// The programs and plain Go get the same packets, valid and hostile, and must
// decide alike. Packets are put together here, byte by byte.

var (
	server4 = netip.MustParseAddr("10.77.0.1")
	client4 = netip.MustParseAddr("10.77.0.2")
	server6 = netip.MustParseAddr("fd77::1")
	client6 = netip.MustParseAddr("fd77::2")
	service = datagram.Service{Port: 7003, IPv4: server4, IPv6: server6}
)

const (
	actionDrop     = 1
	actionPass     = 2
	actionRedirect = 4
)

// recipe is a packet in words.
type recipe struct {
	tags     int
	v6       bool
	tenant   uint32
	kind     frame.Kind
	flags    uint8
	body     int
	fragment uint16
	padding  int
}

func query(tenant uint32) recipe { return recipe{tenant: tenant, kind: frame.KindQuery, body: 24} }

func (r recipe) packet() []byte {
	payload := frame.Append(nil, frame.Frame{Kind: r.kind, Flags: r.flags, Tenant: r.tenant, ID: 77, Body: make([]byte, r.body)})
	b := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}
	for tag := range r.tags {
		b = append(b, [2]byte{0x81, 0x88}[tag%2], [2]byte{0, 0xa8}[tag%2], 0, 7)
	}
	length := uint16(8 + len(payload))
	if r.v6 {
		b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, length)
		b = append(append(append(b, 17, 9), client6.AsSlice()...), server6.AsSlice()...)
	} else {
		b = append(b, 8, 0)
		at := len(b)
		b = append(b, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, 20+length)
		b = binary.BigEndian.AppendUint16(append(b, 0, 1), r.fragment)
		b = append(append(append(b, 9, 17, 0, 0), client4.AsSlice()...), server4.AsSlice()...)
		binary.NativeEndian.PutUint16(b[at+10:], ^datagram.Sum(b[at:]))
	}
	b = binary.BigEndian.AppendUint16(b, 40000)
	b = binary.BigEndian.AppendUint16(b, service.Port)
	b = binary.BigEndian.AppendUint16(b, length)
	return append(append(append(b, 0, 0), payload...), make([]byte, r.padding)...)
}

// draw makes a packet that is handed over as a rule, and often damaged in one place.
func draw(random *rand.Rand) []byte {
	r := query(random.Uint32N(8))
	r.tags = max(0, random.IntN(6)-2)
	r.v6 = random.IntN(3) == 0
	r.padding = max(0, random.IntN(60)-40)
	if random.IntN(8) == 0 {
		r.body = random.IntN(600)
	}
	switch random.IntN(20) {
	case 0:
		r.kind = frame.Kind(random.IntN(8))
	case 1:
		r.flags = frame.FlagUnchecked
	case 2:
		r.fragment = uint16(random.Uint32())
	}
	b := r.packet()
	switch random.IntN(4) {
	case 0:
		b[random.IntN(len(b))] ^= 1 << random.IntN(8)
	case 1:
		b[random.IntN(len(b))] = byte(random.Uint32())
		b = b[:14+random.IntN(len(b)-13)]
	}
	return b
}

func open(t testing.TB, way string) *Router {
	t.Helper()
	if unix.Geteuid() != 0 {
		t.Skip("BPF programs need root")
	}
	r, err := Open(way, service)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	for tenant := range uint32(5) { // 5 to 7 have no route
		if err := r.SetRoute(tenant, 100+tenant); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// reader takes what a way hands over; nil when there is nothing.
func reader(t testing.TB, r *Router) func() []byte {
	t.Helper()
	switch r.Way {
	case WayRing:
		ring, err := ringbuf.NewReader(r.Ring())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ring.Close() })
		return func() []byte {
			ring.SetDeadline(time.Now())
			record, err := ring.Read()
			return found(t, record.RawSample, err)
		}
	case WayPerf:
		events, err := perf.NewReader(r.Events(), 64<<10)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { events.Close() })
		return func() []byte {
			events.SetDeadline(time.Now())
			record, err := events.Read()
			if record.LostSamples > 0 {
				t.Fatalf("%d samples lost", record.LostSamples)
			}
			return found(t, record.RawSample, err)
		}
	}
	return func() []byte { return nil }
}

func found(t testing.TB, sample []byte, err error) []byte {
	t.Helper()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return sample
}

// compare runs one packet both ways and looks at what was handed over.
func compare(t testing.TB, r *Router, take func() []byte, packet []byte) Outcome {
	t.Helper()
	before, err := r.Counts()
	if err != nil {
		t.Fatal(err)
	}
	action, out, err := r.Run(packet)
	if err != nil {
		t.Fatal(err)
	}
	after, err := r.Counts()
	if err != nil {
		t.Fatal(err)
	}
	slot, want := Decide(packet, service, r.Slot)
	if want == HandedOver && r.Way == WaySocket {
		want = NoRoom // there is no socket
	}
	if after[want] != before[want]+1 {
		t.Fatalf("packet %x: the program did not count it as %q: %v before, %v after", packet, want, before, after)
	}
	if !bytes.Equal(out, packet) {
		t.Fatalf("packet %x became %x", packet, out)
	}
	sample := take()
	if want != HandedOver {
		if action != actionPass || sample != nil {
			t.Fatalf("packet %x (%s): action %d, handed over %x", packet, want, action, sample)
		}
		return want
	}
	handed, got, err := ParseHanded(sample)
	if err != nil || action != actionDrop || handed.Slot != slot || handed.TakenNs == 0 || !bytes.Equal(got, packet) {
		t.Fatalf("packet %x: action %d, handed over %+v %x, error %v; want slot %d", packet, action, handed, got, err, slot)
	}
	return want
}

func TestProgramsEqualGo(t *testing.T) {
	for _, way := range []string{WaySocket, WayRing, WayPerf} {
		t.Run(way, func(t *testing.T) {
			r := open(t, way)
			record(t, r)
			take := reader(t, r)
			random := rand.New(rand.NewPCG(3, 3))
			seen := map[Outcome]int{}
			for range 6000 {
				seen[compare(t, r, take, draw(random))]++
			}
			for o := range Outcomes {
				if unreachable := o == HandedOver && way == WaySocket || o == NoRoom && way != WaySocket; seen[o] == 0 && !unreachable {
					t.Errorf("no packet was %q: the draw does not reach it", o)
				}
			}
		})
	}
}

// record notes what was loaded, for the proof suite.
func record(t *testing.T, r *Router) {
	t.Helper()
	info, err := r.program.Info()
	if err != nil {
		t.Fatal(err)
	}
	verified, _ := info.VerifiedInstructions()
	bpftest.Record(t, attach.Program{Name: programs[r.Way], Target: "xdp", Rung: "xdp.frags", VerifiedInstructions: verified})
}

func TestOutcomes(t *testing.T) {
	edit := func(r recipe, change func(b []byte)) []byte {
		b := r.packet()
		change(b)
		return b
	}
	plain, v6 := query(1), query(1)
	v6.v6 = true
	with := func(change func(*recipe)) []byte {
		r := plain
		change(&r)
		return r.packet()
	}
	r := open(t, WayRing)
	take := reader(t, r)
	for _, test := range []struct {
		name   string
		packet []byte
		want   Outcome
	}{
		{"query", plain.packet(), HandedOver},
		{"IPv6", v6.packet(), HandedOver},
		{"two tags", with(func(r *recipe) { r.tags = 2 }), HandedOver},
		{"three tags", with(func(r *recipe) { r.tags = 3 }), NotIP},
		{"padded", with(func(r *recipe) { r.padding = 30 }), HandedOver},
		{"longest", with(func(r *recipe) { r.body = PacketLenMax - 14 - 20 - 8 - 24 }), HandedOver},
		{"too long", with(func(r *recipe) { r.body = PacketLenMax - 14 - 20 - 8 - 24 + 1 }), TooLong},
		{"ARP", edit(plain, func(b []byte) { b[12], b[13] = 8, 6 }), NotIP},
		{"broadcast", edit(plain, func(b []byte) { b[0] = 0xff }), BadAddress},
		{"options", edit(plain, func(b []byte) { b[14] = 0x46 }), IPOptions},
		{"fragment", with(func(r *recipe) { r.fragment = 0x2000 }), Fragment},
		{"TCP", edit(plain, func(b []byte) { b[14+9] = 6 }), NotUDP},
		{"other port", edit(plain, func(b []byte) { b[14+20+3]++ }), OtherPort},
		{"header sum", edit(plain, func(b []byte) { b[14+10]++ }), BadChecksum},
		{"UDP length", edit(plain, func(b []byte) { b[14+20+5]++ }), BadLength},
		{"IP length", edit(plain, func(b []byte) { b[14+3] = 25 }), BadLength},
		{"spoofed length", edit(plain, func(b []byte) { b[14+2] = 0xff }), Truncated},
		{"frame length", edit(plain, func(b []byte) { b[14+20+8]++ }), OtherFrame},
		{"version", edit(plain, func(b []byte) { b[14+20+8+4]++ }), OtherFrame},
		{"unchecked", with(func(r *recipe) { r.flags = frame.FlagUnchecked }), OtherFrame},
		{"append", with(func(r *recipe) { r.kind = frame.KindAppend }), OtherFrame},
		{"unknown tenant", query(6).packet(), Unrouted},
		{"no tenant at all", query(1 << 31).packet(), Unrouted},
	} {
		if got := compare(t, r, take, test.packet); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
	packet := plain.packet()
	for n := 14; n < len(packet); n++ { // every truncation
		if got := compare(t, r, take, packet[:n]); got == HandedOver {
			t.Errorf("cut off at %d: handed over", n)
		}
	}
}

// A full ring loses nothing: what doesn't fit passes to the stack, and is counted.
func TestFullRing(t *testing.T) {
	r := open(t, WayRing)
	packet := query(2).packet()
	for range 10_000 {
		if _, _, err := r.Run(packet); err != nil {
			t.Fatal(err)
		}
	}
	counts, err := r.Counts()
	if err != nil || counts[HandedOver] == 0 || counts[NoRoom] == 0 || counts[HandedOver]+counts[NoRoom] != 10_000 {
		t.Fatalf("counts %v, error %v", counts, err)
	}
	take := reader(t, r)
	taken := uint64(0)
	for take() != nil {
		taken++
	}
	if taken != counts[HandedOver] {
		t.Errorf("%d handed over, %d in the ring", counts[HandedOver], taken)
	}
}

func TestRoutesChange(t *testing.T) {
	r := open(t, WayRing)
	take := reader(t, r)
	packet := query(3).packet()
	compare(t, r, take, packet)
	if err := errors.Join(r.SetRoute(3, 9), r.RemoveRoute(2), r.RemoveRoute(2)); err != nil {
		t.Fatal(err)
	}
	if got := compare(t, r, take, packet); got != HandedOver {
		t.Errorf("after the change: %s", got)
	}
	if got := compare(t, r, take, query(2).packet()); got != Unrouted {
		t.Errorf("without its route: %s", got)
	}
}

func FuzzParseHanded(f *testing.F) {
	f.Add(append(make([]byte, HandedLen), 1, 2, 3))
	f.Fuzz(func(t *testing.T, src []byte) {
		if _, packet, err := ParseHanded(src); err == nil && len(packet) > len(src)-HandedLen {
			t.Fatalf("%d bytes of %d", len(packet), len(src))
		}
	})
}
