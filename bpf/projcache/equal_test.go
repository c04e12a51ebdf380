package projcache

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/bpftest"
	"github.com/nexuscore-labs/nexus/frame"
)

// The program and plain Go get the same packets, valid and hostile, and must send
// the same bytes for the same reason.

func openCache(t testing.TB, options Options) *Cache {
	t.Helper()
	if unix.Geteuid() != 0 {
		t.Skip("BPF programs need root")
	}
	c, err := Open(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func loadProgram(t testing.TB, c *Cache) *Program {
	t.Helper()
	p, err := c.Load(service)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// sizes of projections 0 to 6; number 7 is in no cache.
var sizes = []int{0, 1, 47, 256, 1400, 3300, ProjectionLenMax}

// bufferMax is what a packet in one buffer has at most, by far: a page less
// headroom and the kernel's own data at its end.
const bufferMax = 3500

// fill puts projections of all sizes in for tenants 1 to 4; tenant 0 has no
// snapshot, tenant 5 is beyond the table.
func fill(t testing.TB, c *Cache) {
	t.Helper()
	for tenant := uint32(1); tenant < 5; tenant++ {
		if err := c.SetSnapshot(tenant, tenant+1); err != nil {
			t.Fatal(err)
		}
		for i, size := range sizes {
			value := make([]byte, size)
			random := rand.New(rand.NewPCG(uint64(tenant), uint64(i)))
			for at := range value {
				value[at] = byte(random.Uint32())
			}
			key := Key{Tenant: tenant, Projection: uint32(i), Snapshot: tenant + 1}
			if err := c.Put(key, random.Uint64(), value); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// compare runs one packet both ways.
func compare(t testing.TB, c *Cache, p *Program, packet []byte) Outcome {
	t.Helper()
	before, err := c.Counts()
	if err != nil {
		t.Fatal(err)
	}
	action, out, err := p.Run(packet)
	if err != nil {
		t.Fatal(err)
	}
	after, err := c.Counts()
	if err != nil {
		t.Fatal(err)
	}
	want, outcome := Answer(packet, service, c)
	if n := after.Packets[outcome] - before.Packets[outcome]; n != 1 {
		t.Fatalf("packet %x: the program did not count it as %q: %v before, %v after", packet, outcome, before.Packets, after.Packets)
	}
	if outcome == Answered {
		if action != ActionTX || !bytes.Equal(out, want) {
			t.Fatalf("packet %x: action %d with\n%x, want\n%x", packet, action, out, want)
		}
		return outcome
	}
	if action != ActionPass || !bytes.Equal(out, packet) {
		t.Fatalf("packet %x (%s): action %d with %x: it must pass as it came", packet, outcome, action, out)
	}
	return outcome
}

func TestProgramEqualsGo(t *testing.T) {
	c := openCache(t, Options{Slots: 256, Tenants: 5})
	p := loadProgram(t, c)
	record(t, p)
	fill(t, c)
	random := rand.New(rand.NewPCG(10, 10))
	seen := map[Outcome]int{}
	for range 20_000 {
		packet := draw(random)
		seen[compare(t, c, p, packet)]++
	}
	for _, o := range []Outcome{Answered, Missed, TenantUnknown, TooLarge, NotIP, Truncated, IPOptions, NotUDP, OtherPort, BadAddress, BadLength, BadChecksum, OtherFrame} {
		if seen[o] == 0 {
			t.Errorf("no packet was %q: the draw does not reach it", o)
		}
	}
}

func TestOutcomes(t *testing.T) {
	c := openCache(t, Options{Slots: 256, Tenants: 5})
	p := loadProgram(t, c)
	fill(t, c)
	edit := func(r recipe, change func(b []byte)) []byte {
		b := r.packet()
		change(b)
		return b
	}
	get := plain(1, 2)
	v6 := get
	v6.v6 = true
	tagged := get
	tagged.tags = []uint16{5, 6}
	three := get
	three.tags = []uint16{1, 2, 3}
	padded := get
	padded.padding = 200
	fragment := get
	fragment.fragment = 0x2000
	tail := get
	tail.fragment = 9
	short, justLong := get, get
	short.body = sizes[2] + BodyHeaderLen - 1
	justLong.body = sizes[2] + BodyHeaderLen
	checked := get
	checked.flags = 0
	for _, test := range []struct {
		name   string
		packet []byte
		want   Outcome
	}{
		{"plain", get.packet(), Answered},
		{"IPv6", v6.packet(), Answered},
		{"two tags", tagged.packet(), Answered},
		{"padded", padded.packet(), Answered},
		{"three tags", three.packet(), NotIP},
		{"first fragment", fragment.packet(), Fragment},
		{"last fragment", tail.packet(), Fragment},
		{"frame with a checksum", checked.packet(), OtherFrame},
		{"not there", plain(1, 7).packet(), Missed},
		{"tenant without a snapshot", plain(0, 2).packet(), TenantUnknown},
		{"tenant beyond the table", plain(5, 2).packet(), TenantUnknown},
		{"longer than its request", short.packet(), TooLarge},
		{"just as long as its request", justLong.packet(), Answered},
		{"ARP", edit(get, func(b []byte) { b[13] = 6 }), NotIP},
		{"broadcast", edit(get, func(b []byte) { b[0] = 0xff }), BadAddress},
		{"options", edit(get, func(b []byte) { b[14] = 0x46 }), IPOptions},
		{"TCP", edit(get, func(b []byte) { b[14+9] = 6 }), NotUDP},
		{"extension header", edit(v6, func(b []byte) { b[14+6] = 44 }), NotUDP},
		{"IP says more than there is", edit(get, func(b []byte) { b[14+2] = 0x10 }), Truncated},
		{"UDP says less", edit(get, func(b []byte) { b[14+20+5]-- }), BadLength},
		{"frame says more", edit(get, func(b []byte) { b[14+20+8]++ }), OtherFrame},
		{"port 0", edit(get, func(b []byte) { b[14+20], b[14+21] = 0, 0 }), BadAddress},
		{"other port", edit(get, func(b []byte) { b[14+20+3]++ }), OtherPort},
		{"header damaged", edit(get, func(b []byte) { b[14+8]++ }), BadChecksum},
		{"answer", edit(get, func(b []byte) { b[14+20+8+5] |= 0x80 }), OtherFrame},
		{"nothing", make([]byte, 14), NotIP},
	} {
		if got := compare(t, c, p, test.packet); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// What the program sends parses with the project's own reader, and its checksums
// are right by a sum that knows nothing of the program.
func TestAnswersAreWellFormed(t *testing.T) {
	c := openCache(t, Options{Slots: 256, Tenants: 5})
	p := loadProgram(t, c)
	fill(t, c)
	for i, size := range sizes {
		for _, v6 := range []bool{false, true} {
			r := plain(2, uint32(i))
			r.body = size + BodyHeaderLen
			if size > bufferMax {
				continue // no request of that length is in one buffer
			}
			r.v6 = v6
			_, out, err := p.Run(r.packet())
			if err != nil {
				t.Fatal(err)
			}
			headerLen, pseudo := 20, append([]byte(nil), out[14+12:14+20]...)
			if v6 {
				headerLen, pseudo = 40, append([]byte(nil), out[14+8:14+40]...)
			} else if sum := slowSum(out[14 : 14+20]); sum != 0xffff {
				t.Errorf("size %d: the IP header sums to %#x", size, sum)
			}
			udp := out[14+headerLen:]
			pseudo = binary.BigEndian.AppendUint16(append(pseudo, 0, 17), uint16(len(udp)))
			if sum := slowSum(append(pseudo, udp...)); sum != 0xffff {
				t.Errorf("size %d, IPv6 %v: the datagram sums to %#x", size, v6, sum)
			}
			f, err := frame.ParseDatagram(udp[8:])
			if err != nil || f.Kind != frame.KindGet|frame.KindReply || f.ID != 0x1122334455667788 || f.Tenant != 2 || len(f.Body) != BodyHeaderLen+size {
				t.Errorf("size %d: %+v, error %v", size, f, err)
			}
		}
	}
}

func FuzzProgramEqualsGo(f *testing.F) {
	c := openCache(f, Options{Slots: 256, Tenants: 5})
	p := loadProgram(f, c)
	fill(f, c)
	random := rand.New(rand.NewPCG(1, 1))
	for range 40 {
		f.Add(draw(random))
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		if len(packet) < 14 || len(packet) > bufferMax {
			return // the kernel runs nothing shorter than an Ethernet header
		}
		compare(t, c, p, packet)
	})
}

// record says to the proof on all kernels that the program was loaded.
func record(t testing.TB, p *Program) {
	t.Helper()
	info, err := p.program.Info()
	if err != nil {
		t.Fatal(err)
	}
	verified, _ := info.VerifiedInstructions()
	bpftest.Record(t, attach.Program{Name: programCache, Target: "xdp", Rung: "xdp.frags", VerifiedInstructions: verified})
}
