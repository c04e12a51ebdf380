package reports

import (
	"strings"
	"testing"

	"github.com/nexuscore-labs/nexus/reports/chart"
)

// kernelResult has one trial with these histograms.
func kernelResult(t *testing.T, kernel ...KernelHistogram) *view {
	t.Helper()
	v, err := newView(&Result{
		Contenders: []ContenderResult{{Name: "a", Role: RoleSubject}},
		Trials:     []Trial{{Contender: "a", Point: "p", Status: "ok", Kernel: kernel}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func kernelOf(probe, label, unit string, buckets ...KernelBucket) KernelHistogram {
	h := KernelHistogram{Probe: probe, Label: label, Unit: unit, Buckets: buckets}
	for _, b := range buckets {
		h.Count += b.Count
		h.Sum += b.Lo * float64(b.Count)
	}
	return h
}

func TestHeatmapsOfSizes(t *testing.T) {
	write := kernelOf("block", "write", "bytes", KernelBucket{0, 1, 2}, KernelBucket{4096, 4352, 10})
	flush := kernelOf("block", "flush", "bytes", KernelBucket{0, 1, 5})
	charts := kernelResult(t, write, flush).heatmaps()
	if len(charts) != 1 || len(charts[0].Heat) != 1 {
		t.Fatalf("want one chart with the write alone: a flush has no bytes; got %+v", charts)
	}
	row := charts[0].Heat[0]
	if want := "12 × · p50 4 KiB · p99 4 KiB · 2 of 0, not drawn"; row.Note != want {
		t.Errorf("note %q, want %q", row.Note, want)
	}
	if strings.Contains(charts[0].Caption, leftIsBetter) {
		t.Errorf("no size is better: %q", charts[0].Caption)
	}
	if edges := charts[0].Edges; edges[0] != 4096 {
		t.Errorf("columns begin at %v, want the power of two", edges[0])
	}
}

// Every chart has a title of its own, in words, and says left is better only
// where that is so.
func TestHeatmapTitles(t *testing.T) {
	bucket := KernelBucket{32, 34, 3}
	v := kernelResult(t, kernelOf("block", "write", "ns", bucket), kernelOf("block", "write", "bytes", bucket), kernelOf("oncpu", "slice", "ns", bucket),
		kernelOf("uring", "fsync", "ns", bucket), kernelOf("uring", "task work batch", "count", bucket), kernelOf("lock", "mutex", "ns", bucket),
		kernelOf("novel", "x", "ns", bucket), kernelOf("novel", "x", "bytes", bucket))
	better := map[string]bool{"Block I/O, issue to completion": true, "io_uring operations, submit to completion": true, "Wait for kernel locks": true, "Durations of novel": true,
		"Size of block I/O requests": false, "Time on the CPU at a stretch": false, "io_uring completions worked off in one go": false, "Sizes of novel": false}
	seen := map[string]chart.Chart{}
	for _, c := range v.heatmaps() {
		title := strings.TrimSuffix(c.Title, ", in the kernel at p")
		if _, twice := seen[title]; twice {
			t.Errorf("two charts are called %q", title)
		}
		seen[title] = c
		if want, known := better[title]; !known || strings.Contains(c.Caption, "Further left is better") != want {
			t.Errorf("%q: caption %q", title, c.Caption)
		}
	}
	if len(seen) != len(better) {
		t.Errorf("%d charts, want %d", len(seen), len(better))
	}
}

func TestKernelQuantile(t *testing.T) {
	for _, c := range []struct {
		unit string
		b    KernelBucket
		want float64
	}{
		{"bytes", KernelBucket{4096, 4352, 1}, 4096}, {"count", KernelBucket{1, 2, 1}, 1}, {"ns", KernelBucket{7, 8, 1}, 7},
		{"ns", KernelBucket{100, 104, 1}, 101.5},
	} {
		h := kernelOf("p", "l", c.unit, c.b)
		if got := h.quantile(0.5); got != c.want {
			t.Errorf("%s in [%v, %v): %v, want %v", c.unit, c.b.Lo, c.b.Hi, got, c.want)
		}
	}
}
