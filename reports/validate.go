package reports

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

var timeType = reflect.TypeFor[time.Time]()

// jsonName is the key of a struct field and whether it may be left out.
func jsonName(field reflect.StructField) (name string, optional bool) {
	name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
	return name, strings.Contains(options, "omitempty")
}

var (
	verdicts       = []Verdict{VerdictPass, VerdictFail, VerdictInconclusive, VerdictInvalid}
	roles          = []string{RoleSubject, RoleBaseline, RolePeer}
	gateStatuses   = []string{"pass", "fail", "inconclusive", "not_measured"}
	lessonStatuses = []string{"held", "not_held", "inconclusive", "not_measured"}
	claimVerdicts  = []string{"held", "refuted", "inconclusive", "not_measurable"}
	trialStatuses  = []string{"ok", "invalid", "failed"}
	comparisons    = []string{">=", "<=", "=="}
)

// Roles of a contender.
const (
	RoleSubject  = "subject"
	RoleBaseline = "baseline"
	RolePeer     = "peer"
)

// Validate says what in r contradicts itself or is outside the schema's words;
// all of it, joined. A result that fails it is neither written nor read.
func (r *Result) Validate() error {
	var problems []error
	refuse := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if r.SchemaVersion != SchemaVersion {
		refuse("schema_version is %d, want %d", r.SchemaVersion, SchemaVersion)
	}
	if !slices.Contains(verdicts, r.Verdict) {
		refuse("verdict is %q, want one of %v", r.Verdict, verdicts)
	}
	if r.Verdict != VerdictPass && len(r.Reasons) == 0 {
		refuse("verdict is %s without a reason", r.Verdict)
	}
	if r.Lab == "" || len(r.Contenders) == 0 {
		refuse("no lab or no contenders: an empty run has no result")
	}
	known := map[string]bool{}
	for _, c := range r.Contenders {
		if c.Name == "" || known[c.Name] {
			refuse("contender %q is unnamed or there twice", c.Name)
		}
		known[c.Name] = true
		if !slices.Contains(roles, c.Role) {
			refuse("contender %s: role is %q, want one of %v", c.Name, c.Role, roles)
		}
	}
	problems = append(problems, validThresholds("gate", r.Gates, gateStatuses), validThresholds("lesson threshold", r.LessonThresholds, lessonStatuses))
	for _, c := range r.Claims {
		if !slices.Contains(claimVerdicts, c.Verdict) {
			refuse("claim %s: verdict is %q, want one of %v", c.ID, c.Verdict, claimVerdicts)
		}
	}
	for i := range r.Points {
		problems = append(problems, validPoint(&r.Points[i], known))
	}
	for i := range r.Trials {
		problems = append(problems, validTrial(&r.Trials[i], known))
	}
	for _, m := range r.Metrics {
		problems = append(problems, validInterval("metric "+m.Name, m.CI))
	}
	return errors.Join(problems...)
}

func validThresholds(class string, thresholds []ThresholdResult, statuses []string) error {
	var problems []error
	for _, t := range thresholds {
		where := class + " " + t.ID
		if !slices.Contains(statuses, t.Status) {
			problems = append(problems, fmt.Errorf("%s: status is %q, want one of %v", where, t.Status, statuses))
		}
		if !slices.Contains(comparisons, t.Compare) {
			problems = append(problems, fmt.Errorf("%s: compare is %q, want one of %v", where, t.Compare, comparisons))
		}
		good := t.Status == "pass" || t.Status == "held"
		if good && t.Value == nil || t.Status == "not_measured" && t.Value != nil {
			problems = append(problems, fmt.Errorf("%s: status %s does not fit its value", where, t.Status))
		}
		problems = append(problems, validInterval(where, t.CI))
	}
	return errors.Join(problems...)
}

func validPoint(p *PointResult, contenders map[string]bool) error {
	where := fmt.Sprintf("point %s of %s", p.Point, p.Contender)
	var unknown error
	if !contenders[p.Contender] {
		unknown = fmt.Errorf("%s: no such contender", where)
	}
	problems := []error{unknown, validInterval(where+" throughput", p.ThroughputPerS), validInterval(where+" cpu", p.CPUNsPerOp)}
	for name, interval := range p.LatencyNs {
		problems = append(problems, validInterval(where+" latency "+name, &interval))
	}
	return errors.Join(problems...)
}

func validTrial(t *Trial, contenders map[string]bool) error {
	where := fmt.Sprintf("trial %d (%s, point %s, round %d)", t.Order, t.Contender, t.Point, t.Round)
	switch {
	case !contenders[t.Contender]:
		return fmt.Errorf("%s: no such contender", where)
	case !slices.Contains(trialStatuses, t.Status):
		return fmt.Errorf("%s: status is %q, want one of %v", where, t.Status, trialStatuses)
	case t.Status != "ok" && t.Reason == "":
		return fmt.Errorf("%s: %s without a reason", where, t.Status)
	case t.Status == "ok" && (t.ThroughputPerS < 0 || t.ElapsedNs <= 0):
		return fmt.Errorf("%s: ok with throughput %g/s in %d ns", where, t.ThroughputPerS, t.ElapsedNs)
	case t.Pace != nil && (len(t.Pace.Answered) != len(t.Pace.LatencySumNs) || t.Pace.MeasuredFrom < 0 || t.Pace.MeasuredFrom > len(t.Pace.Answered)):
		return fmt.Errorf("%s: its pace of %d and %d intervals, measured from %d, contradicts itself", where, len(t.Pace.Answered), len(t.Pace.LatencySumNs), t.Pace.MeasuredFrom)
	}
	return nil
}

func validInterval(where string, i *Interval) error {
	if i == nil || i.Valid() {
		return nil
	}
	return fmt.Errorf("%s: %g [%g, %g] of %d is no interval", where, i.Center, i.Lo, i.Hi, i.N)
}
