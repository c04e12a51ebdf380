package honesty

import (
	"testing"
	"time"
)

// One gap of 1 ms in a second: a request in a thousand is due in it, and half
// of those wait for more than half of it.
func TestFloor(t *testing.T) {
	f := floorOf(0, []int64{1_000_000, 6_000}, 1e9)
	if f.GapNsMax != 1_000_000 || f.GapShare != 0.001 {
		t.Errorf("%+v", f)
	}
	if f.LagNs[0] != 0 || f.LagNs[1] != 0 || f.LagNs[2] > 6_000 {
		t.Errorf("lags %v", f.LagNs)
	}
	if got := lagExceeded([]int64{1_000_000}, 500_000); got != 500_000 {
		t.Errorf("half of the gap's requests wait for more than %d ns", got)
	}
	if f := floorOf(0, nil, 1e9); f.LagNs[2] != 0 {
		t.Errorf("%+v", f)
	}
	// M/D/1 at half load: the mean wait is half a service time, and half of all wait for nothing.
	if q := queueing(50_000, 100_000); q[0] > 5_000 || q[2] < 40_000 || q[2] > 70_000 {
		t.Errorf("waits in a queue at half load: %v ns", q)
	}
	measured, err := MeasureFloor(0, 5*time.Millisecond)
	if err != nil || measured.ElapsedNs < 5e6 {
		t.Errorf("%+v, %v", measured, err)
	}
}
