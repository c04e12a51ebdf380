package honesty

import "testing"

// Only what the server's own record bears out is the server's fault.
func TestServerWasLate(t *testing.T) {
	for _, c := range []struct {
		name           string
		script, record float64
		wrong          string
		want           bool
	}{
		{"all is right", 0.01, 0.01, "", false},
		{"the server was late", 0.07, 0.01, "", true},
		{"the generator was off", 0.07, 0.06, "", false},
		{"by its record only", 0.01, 0.07, "", false},
		{"wrong answers", 0.07, 0.01, "an answer too many", false},
	} {
		o := Outcome{Wrong: c.wrong, Figures: []Figure{{Error: 0.01, LoggedNs: 1}, {Error: c.script, ErrorLogged: c.record, LoggedNs: 1}}}
		if got := o.ServerWasLate(); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
