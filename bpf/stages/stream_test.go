package stages

// The clever indexes against dumb ones: every byte and every tick on its own.

import (
	"math/rand/v2"
	"testing"
)

// dumbStream keeps for each byte when it passed first.
type dumbStream struct{ at []int64 }

func (d *dumbStream) add(start, length int, ns int64) {
	for i := start; i < start+length; i++ {
		if d.at[i] == 0 {
			d.at[i] = ns
		}
	}
}

func (d *dumbStream) passed(end int) (int64, bool) {
	var last int64
	for _, ns := range d.at[:end] {
		if ns == 0 {
			return 0, false
		}
		last = max(last, ns)
	}
	return last, true
}

func checkStream(t *testing.T, seed uint64, isn uint32) {
	t.Helper()
	const bytes = 300
	random := rand.New(rand.NewPCG(seed, 1))
	var s stream
	dumb := dumbStream{at: make([]int64, bytes)}
	s.open(isn)
	sent := 0
	for ns := int64(1); ns < 80; ns++ {
		start, length := sent, min(1+random.IntN(20), bytes-sent)
		switch {
		case random.IntN(4) == 0 && sent > 0: // again, from somewhere before
			start = random.IntN(sent)
			length = min(1+random.IntN(30), bytes-start)
		case random.IntN(4) == 0: // overtakes
			start = min(sent+random.IntN(40), bytes-1)
			length = min(length+1, bytes-start)
		default:
			sent += length
		}
		if length == 0 {
			continue
		}
		s.add(isn+1+uint32(start), uint32(length), ns, 0)
		dumb.add(start, length, ns)
	}
	for end := 1; end <= bytes; end++ {
		wantNs, want := dumb.passed(end)
		got, ok := s.passed(uint64(end))
		if ok != want || ok && got.ns != wantNs {
			t.Fatalf("seed %d: bytes to %d passed at %d (%v), want %d (%v)", seed, end, got.ns, ok, wantNs, want)
		}
	}
}

func TestStreamAgainstEveryByte(t *testing.T) {
	for seed := range uint64(2000) {
		checkStream(t, seed, uint32(seed*2654435761))
	}
	for _, isn := range []uint32{0, 1<<32 - 1, 1<<32 - 100, 1 << 31} { // wraps on the way
		checkStream(t, 7, isn)
	}
}

func FuzzStreamAgainstEveryByte(f *testing.F) {
	f.Add(uint64(1), uint32(1<<32-5))
	f.Fuzz(checkStream)
}

func TestStreamWithoutItsOpeningKnowsNothing(t *testing.T) {
	var s stream
	s.add(100, 10, 1, 0)
	if _, ok := s.passed(1); ok {
		t.Error("bytes were placed without the sequence number that they count from")
	}
}
