package reports

import "testing"

// The command of all claims is said once; what differs stays with its claim.
func TestClaimTableSaysOneCommandOnce(t *testing.T) {
	claims := func(commands ...string) *view {
		v := &view{Result: &Result{}}
		for _, c := range commands {
			v.Claims = append(v.Claims, ClaimResult{Statement: "s", Verdict: "held", Evidence: "e", Command: c})
		}
		return v
	}
	for _, c := range []struct {
		name     string
		commands []string
		code     string
		columns  int
		last     string // cell of the first row
	}{
		{"all equal", []string{"nexus run x", "nexus run x"}, "nexus run x", 3, "e"},
		{"other remarks", []string{"nexus run x  # check a", "nexus run x  # check b"}, "nexus run x", 4, "check a"},
		{"one without", []string{"", "nexus run x  # check b", "nexus run x  # check c"}, "nexus run x", 4, ""},
		{"two commands", []string{"nexus run x", "nexus run y"}, "", 4, "nexus run x"},
		{"one claim", []string{"nexus run x  # check a"}, "", 4, "nexus run x  # check a"},
	} {
		v := claims(c.commands...)
		got := v.claimTable()
		if got.Code != c.code || len(got.Columns) != c.columns {
			t.Errorf("%s: code %q and %d columns, want %q and %d", c.name, got.Code, len(got.Columns), c.code, c.columns)
			continue
		}
		for _, row := range got.Rows {
			if len(row) != c.columns {
				t.Errorf("%s: a row of %d cells", c.name, len(row))
			}
		}
		if last := got.Rows[0][c.columns-1].Text; last != c.last {
			t.Errorf("%s: the last cell is %q, want %q", c.name, last, c.last)
		}
	}
}
