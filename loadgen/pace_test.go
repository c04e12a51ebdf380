package loadgen

import (
	"slices"
	"testing"
	"time"
)

func TestPaceInterval(t *testing.T) {
	for total, want := range map[time.Duration]time.Duration{
		time.Millisecond: time.Millisecond, 200 * time.Millisecond: time.Millisecond, 300 * time.Millisecond: 2 * time.Millisecond,
		900 * time.Millisecond: 5 * time.Millisecond, 2 * time.Second: 10 * time.Millisecond, 3 * time.Second: 20 * time.Millisecond,
		time.Hour: 20 * time.Second, 1000 * time.Hour: 20000 * time.Second,
	} {
		if got := time.Duration(paceInterval(int64(total))); got != want || int64(total)/int64(got) > paceBinsMax {
			t.Errorf("%v is cut into intervals of %v, want %v", total, got, want)
		}
	}
}

func TestPaceBordersAreWhereMeasuringBegins(t *testing.T) {
	p := newPaceRecorder(61*time.Millisecond, 239*time.Millisecond) // 2 ms each: 30 and a rest, 119 and a half
	const measureNs = int64(1e9)
	p.begin(measureNs)
	p.answered(measureNs-60e6-1, 5) // in the rest before the first whole interval: left out
	p.answered(measureNs-60e6, 5)
	p.answered(measureNs-1, 7)
	p.answered(measureNs, 9)
	p.answered(measureNs+240e6-1, 11)
	p.answered(measureNs+240e6, 13) // after the last
	want := make([]uint64, 150)
	want[0], want[29], want[30], want[149] = 1, 1, 1, 1
	if p.MeasuredFrom != 30 || !slices.Equal(p.Answered, want) || p.LatencySumNs[30] != 9 || p.LatencySumNs[149] != 11 {
		t.Errorf("%+v", p.Pace)
	}
	var sum Pace
	sum.merge(&p.Pace)
	sum.merge(&p.Pace)
	if sum.Answered[29] != 2 || sum.LatencySumNs[29] != 14 || sum.MeasuredFrom != 30 || p.Answered[29] != 1 {
		t.Errorf("merged: %+v", sum)
	}
}

// The measured intervals hold exactly what the throughput is made of, and the
// warm-up is there as well.
func TestPaceAddsUpToTheAnswers(t *testing.T) {
	r, err := Run(t.Context(), Config{
		Target: startNull(t, "tcp", "frame"), Arrival: "poisson", RatePerS: 4000,
		Streams: 16, Connections: 4, Warmup: 100 * time.Millisecond, Duration: 200 * time.Millisecond,
		Timeout: 2 * time.Second, Seed: 1, Source: sourceFor("frame", 16, 64),
	})
	if err != nil {
		t.Fatal(err)
	}
	warm, measured := uint64(0), uint64(0)
	for i, n := range r.Pace.Answered {
		if i < r.Pace.MeasuredFrom {
			warm += n
		} else {
			measured += n
		}
		if n == 0 && r.Pace.LatencySumNs[i] != 0 || n > 0 && r.Pace.LatencySumNs[i] <= 0 {
			t.Errorf("interval %d: %d answers with %d ns", i, n, r.Pace.LatencySumNs[i])
		}
	}
	if measured != r.Answered || measured == 0 || warm == 0 {
		t.Errorf("%d answers in the measured intervals, %d in the warm-up; the run counted %d", measured, warm, r.Answered)
	}
}
