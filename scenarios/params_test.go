package scenarios

import (
	"strings"
	"testing"
)

// A param that nobody looks at would measure the unchanged design: it is refused
// with the nearest valid name.
func TestParamsOfAContender(t *testing.T) {
	lab := testLab()
	lab.contender("honest").Params = map[string][]string{"commit": {"linked", "dsync"}, "note": nil}
	for _, c := range []struct {
		contender, name, value, want string
	}{
		{"honest", "commit", "linked", ""},
		{"honest", "note", "whatever", ""},
		{"honest", "commmit", "linked", `did you mean "commit"?`},
		{"honest", "commit", "linkd", `did you mean "linked"?`},
		{"slow", "commit", "linked", "slow has no params"},
	} {
		s := testScenario("honest", "slow")
		for i := range s.Contenders {
			if s.Contenders[i].Name == c.contender {
				s.Contenders[i].Params = map[string]string{c.name: c.value}
			}
		}
		err := s.checkLab(lab)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%+v: %v", c, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%+v: %v", c, err)
		}
	}
}
