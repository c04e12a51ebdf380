package reports

import (
	"math"
	"strings"
	"testing"

	"github.com/HdrHistogram/hdrhistogram-go"
)

func uniform(t testing.TB, from, to int64) *hdrhistogram.Histogram {
	t.Helper()
	h := hdrhistogram.New(1, 10_000_000, 3)
	for v := from; v <= to; v++ {
		if err := h.RecordValue(v); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func TestHistogramRoundTrip(t *testing.T) {
	want := uniform(t, 1, 10_000)
	text, err := EncodeHistogram(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeHistogram(text)
	if err != nil || !got.Equals(want) {
		t.Fatalf("changed on its way: %v", err)
	}
	if l := LatencyOf(got); l.Count != 10_000 || math.Abs(float64(l.P50)-5000) > 10 || math.Abs(float64(l.P999)-9990) > 20 || math.Abs(l.Mean-5000.5) > 10 {
		t.Errorf("summary %+v", l)
	}
}

func TestAbsentHistograms(t *testing.T) {
	for _, h := range []*hdrhistogram.Histogram{nil, hdrhistogram.New(1, 100, 2)} {
		if text, err := EncodeHistogram(h); text != "" || err != nil {
			t.Errorf("encoded as %q, %v", text, err)
		}
		if LatencyOf(h) != (Latency{}) || CDF(h, 10) != nil || PercentileCurve(h, 10) != nil {
			t.Error("numbers came out of nothing")
		}
	}
	for _, text := range []string{"", "hello", "AAAA", "HISTFAAAA"} {
		if _, err := DecodeHistogram(text); err == nil {
			t.Errorf("%q was decoded", text)
		}
	}
	if _, err := MergeHistograms(nil, nil); err == nil {
		t.Error("nothing was merged")
	}
}

func TestMergeLosesNothing(t *testing.T) {
	narrow := hdrhistogram.New(1, 1000, 2)
	if err := narrow.RecordValue(900); err != nil {
		t.Fatal(err)
	}
	merged, err := MergeHistograms(narrow, nil, uniform(t, 1, 5000))
	if err != nil || merged.TotalCount() != 5001 || merged.Max() < 5000 {
		t.Errorf("%v: %d values up to %d", err, merged.TotalCount(), merged.Max())
	}
}

func TestCurves(t *testing.T) {
	h := uniform(t, 1, 10_000)
	cdf := CDF(h, 50)
	for i, p := range cdf {
		if want := p.ValueNs / 10_000; math.Abs(p.Share-want) > 0.01 {
			t.Errorf("CDF at %v is %v, want %v", p.ValueNs, p.Share, want)
		}
		if i > 0 && (p.Share < cdf[i-1].Share || p.ValueNs < cdf[i-1].ValueNs) {
			t.Errorf("CDF falls at %d", i)
		}
	}
	if last := cdf[len(cdf)-1]; last.Share != 1 {
		t.Errorf("CDF ends at %v", last.Share)
	}
	curve := PercentileCurve(h, 10)
	if last := curve[len(curve)-1]; math.Abs(last.Share-0.9999) > 1e-9 || last.ValueNs < 10_000 {
		t.Errorf("curve ends at %+v: it must not claim more nines than there are values", last)
	}
}

func TestSparkline(t *testing.T) {
	h := uniform(t, 1, 1000)
	if line := []rune(sparkline(h, 1, 1000, 10)); len(line) != 10 || line[9] != '█' {
		t.Errorf("%q", string(line))
	}
	if line := sparkline(h, 1, 1_000_000, 20); !strings.HasSuffix(line, " ") {
		t.Errorf("%q has values beyond the largest", line)
	}
	if line := sparkline(nil, 1, 10, 10); line != "not measured" {
		t.Errorf("absent: %q", line)
	}
}

func BenchmarkEncodeHistogram(b *testing.B) {
	h := uniform(b, 1, 100_000)
	for b.Loop() {
		if _, err := EncodeHistogram(h); err != nil {
			b.Fatal(err)
		}
	}
}
