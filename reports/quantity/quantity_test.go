package quantity

import (
	"math"
	"testing"
)

func TestFormat(t *testing.T) {
	for _, c := range []struct {
		unit  Unit
		value float64
		want  string
	}{
		{Ns, 0, "0 ns"}, {Ns, 7, "7 ns"}, {Ns, 12.34, "12.3 ns"}, {Ns, 999.4, "999 ns"}, {Ns, 999.6, "1.00 µs"},
		{Ns, 1234567, "1.23 ms"}, {Ns, 59.96e9, "60.0 s"}, {Ns, 3.6e12, "3600 s"}, {Ns, -2500, "-2.5 µs"},
		{PerS, 412345, "412k/s"}, {PerS, 999, "999/s"}, {PerS, 1e6, "1M/s"}, {PerS, 0.5, "0.5/s"},
		{Bytes, 100, "100 B"}, {Bytes, 4096, "4 KiB"}, {Bytes, 1 << 30, "1 GiB"}, {Bytes, 1010, "1010 B"},
		{BytesPS, 1.5e9, "1.5 GB/s"}, {Ratio, 23.456, "23.5×"}, {Ratio, 1, "1×"}, {Share, 0.0312, "3.12%"},
		{Count, 1234, "1.23k"}, {Count, 5, "5"}, {Unit("ns/op"), 1500, "1.5 µs/op"}, {Unit("records"), 2000, "2k records"},
		{Ns, math.NaN(), NotMeasured}, {Ns, math.Inf(1), NotMeasured},
	} {
		if got := c.unit.Format(c.value); got != c.want {
			t.Errorf("%s of %v = %q, want %q", c.unit, c.value, got, c.want)
		}
	}
	if got := Ns.FormatPtr(nil); got != NotMeasured {
		t.Errorf("absent number = %q", got)
	}
}

func TestOfKeepsUnknownUnits(t *testing.T) {
	for name, want := range map[string]Unit{"per_s": PerS, "": Count, "records": "records", "ns": Ns, "ns/op": "ns/op"} {
		if got := Of(name); got != want {
			t.Errorf("Of(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestCounted(t *testing.T) {
	for n, want := range map[int]string{0: "0 trials", 1: "1 trial", 8: "8 trials"} {
		if got := Counted(n, "trial"); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
