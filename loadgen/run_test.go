package loadgen

import "testing"

// checkAccounting holds the identities that every result must satisfy.
func checkAccounting(t testing.TB, r *Result) {
	t.Helper()
	if r.Intended != r.Sent+r.Unsent {
		t.Errorf("intended %d = sent %d + unsent %d does not hold", r.Intended, r.Sent, r.Unsent)
	}
	if ended := r.Completed + r.Errors + r.Timeouts + r.Wrong + r.InFlight; r.Sent != ended {
		t.Errorf("sent %d = completed %d + errors %d + timeouts %d + wrong %d + in flight %d does not hold", r.Sent, r.Completed, r.Errors, r.Timeouts, r.Wrong, r.InFlight)
	}
	if n := uint64(r.Latency.TotalCount()); n != r.Completed {
		t.Errorf("%d latencies of %d completed requests", n, r.Completed)
	}
	if n := uint64(r.Lag.TotalCount()); n != r.Sent {
		t.Errorf("%d lags of %d sent requests", n, r.Sent)
	}
}
