package frame

import (
	"bytes"
	"errors"
	"testing"
)

func TestAppendParseRoundTrip(t *testing.T) {
	for _, body := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("ab"), 5000)} {
		want := Frame{Kind: KindAppend | KindReply, Status: StatusDiskFull, Tenant: 77, ID: 1 << 50, Body: body}
		wire := Append([]byte("before"), want)[len("before"):]
		got, n, err := Parse(append(bytes.Clone(wire), "after"...))
		if err != nil || n != len(wire) {
			t.Fatalf("Parse took %d of %d bytes, error %v", n, len(wire), err)
		}
		if got.Kind != want.Kind || got.Status != want.Status || got.Tenant != want.Tenant || got.ID != want.ID || !bytes.Equal(got.Body, body) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	}
}

func TestParseWaitsForTheWholeFrame(t *testing.T) {
	wire := Append(nil, Frame{Kind: KindPing, Body: []byte("hello")})
	for n := range wire {
		if _, took, err := Parse(wire[:n]); took != 0 || err != nil {
			t.Fatalf("Parse of the first %d bytes: took %d, error %v", n, took, err)
		}
	}
}

func TestParseRefusesEveryFlippedBit(t *testing.T) {
	wire := Append(nil, Frame{Kind: KindAppend, Tenant: 3, ID: 9, Body: []byte("record")})
	for bit := 8 * 4; bit < 8*len(wire); bit++ { // the length is checked by range, not by the sum
		damaged := bytes.Clone(wire)
		damaged[bit/8] ^= 1 << (bit % 8)
		if f, n, err := Parse(damaged); err == nil {
			t.Fatalf("bit %d flipped: parsed %d bytes as %+v", bit, n, f)
		}
	}
}

func TestParseRefusesAbsurdLengths(t *testing.T) {
	for _, wire := range [][]byte{{0, 0, 0, 0}, {19, 0, 0, 0}, {0xff, 0xff, 0xff, 0xff}} {
		if _, _, err := Parse(wire); !errors.Is(err, ErrLength) {
			t.Fatalf("Parse(%x): error %v, want %v", wire, err, ErrLength)
		}
	}
}

func TestUncheckedFramesAreDatagramsOnly(t *testing.T) {
	want := Frame{Kind: KindGet, Flags: FlagUnchecked, Tenant: 3, ID: 9, Body: []byte("body")}
	wire := Append(nil, want)
	if _, _, err := Parse(wire); !errors.Is(err, ErrFlags) {
		t.Errorf("as a stream: error %v, want %v", err, ErrFlags)
	}
	got, err := ParseDatagram(wire)
	if err != nil || got.Flags != FlagUnchecked || got.ID != want.ID || !bytes.Equal(got.Body, want.Body) {
		t.Errorf("as a datagram: %+v, error %v", got, err)
	}
	if _, err := ParseDatagram(wire[:len(wire)-1]); !errors.Is(err, ErrPartial) {
		t.Errorf("cut short: error %v, want %v", err, ErrPartial)
	}
	if _, err := ParseDatagram(append(bytes.Clone(wire), 0)); !errors.Is(err, ErrPartial) {
		t.Errorf("with more behind it: error %v, want %v", err, ErrPartial)
	}
	wire[20] = 1
	if _, err := ParseDatagram(wire); !errors.Is(err, ErrChecksum) {
		t.Errorf("with a checksum all the same: error %v, want %v", err, ErrChecksum)
	}
	wire[20], wire[7] = 0, 3
	if _, err := ParseDatagram(wire); !errors.Is(err, ErrFlags) {
		t.Errorf("with another flag: error %v, want %v", err, ErrFlags)
	}
}

func FuzzParseDatagram(f *testing.F) {
	f.Add(Append(nil, Frame{Kind: KindGet, Flags: FlagUnchecked, Tenant: 1, ID: 2, Body: []byte{7, 0, 0, 0}}))
	f.Add(Append(nil, Frame{Kind: KindGet, Tenant: 1, ID: 2, Body: []byte{7, 0, 0, 0}}))
	f.Fuzz(func(t *testing.T, src []byte) {
		got, err := ParseDatagram(src)
		if err != nil {
			return
		}
		if again := Append(nil, got); !bytes.Equal(again, src) {
			t.Fatalf("parsed %x, encoded again as %x", src, again)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(Append(nil, Frame{Kind: KindAppend, Tenant: 1, ID: 2, Body: []byte("record")}))
	f.Add([]byte{20, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, src []byte) {
		got, n, err := Parse(src)
		if err != nil || n == 0 {
			return
		}
		if again := Append(nil, got); !bytes.Equal(again, src[:n]) {
			t.Fatalf("parsed %x, encoded again as %x", src[:n], again)
		}
	})
}

func BenchmarkAppendParse256B(b *testing.B) {
	body := make([]byte, 256)
	buf := make([]byte, 0, 512)
	b.SetBytes(int64(HeaderLen + len(body)))
	b.ReportAllocs()
	for b.Loop() {
		buf = Append(buf[:0], Frame{Kind: KindAppend, ID: 1, Body: body})
		if _, n, err := Parse(buf); n != len(buf) || err != nil {
			b.Fatal(n, err)
		}
	}
}

func TestSealEqualsAppend(t *testing.T) {
	for _, flags := range []uint8{0, FlagUnchecked} {
		f := Frame{Kind: KindQuery | KindReply, Status: StatusUnknown, Flags: flags, Tenant: 9, ID: 1 << 40, Body: []byte("a body made in its place")}
		sealed := append(bytes.Repeat([]byte{0xee}, HeaderLen), f.Body...)
		Seal(sealed, f)
		if want := Append(nil, f); !bytes.Equal(sealed, want) {
			t.Fatalf("sealed %x, want %x", sealed, want)
		}
	}
}
