package reports

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nexuscore-labs/nexus/reports/quantity"
	"github.com/nexuscore-labs/nexus/reports/stats"
)

// table is what HTML, Markdown and terminal show alike.
type table struct {
	ID      string
	Title   string
	Note    string
	Code    string // a command, under the note
	Columns []column
	Rows    [][]cell
}

// denseColumns is from where on a table is set narrower.
const denseColumns = 13

// Dense says that the table has too many columns for a page's usual spacing.
func (t table) Dense() bool { return len(t.Columns) >= denseColumns }

type column struct {
	Name    string
	Numeric bool // aligned at the right
}

// cell is a text and, if it has one, its meaning: a role or a status.
type cell struct{ Text, Class string }

func plain(text string) cell { return cell{Text: text} }

func number(unit quantity.Unit, value *float64) cell {
	if value == nil {
		return cell{quantity.NotMeasured, "absent"}
	}
	return cell{Text: unit.Format(*value)}
}

// interval is the estimate with its bounds.
func interval(unit quantity.Unit, i *stats.Interval) cell {
	if i == nil || !i.Valid() {
		return cell{quantity.NotMeasured, "absent"}
	}
	return cell{Text: unit.Format(i.Center) + " " + bounds(unit, i)}
}

func bounds(unit quantity.Unit, i *stats.Interval) string {
	return "[" + unit.Format(i.Lo) + " to " + unit.Format(i.Hi) + "]"
}

// statusMarks let a status be read without its colour.
var statusMarks = map[string]string{
	"pass": "✓", "held": "✓", "fail": "✗", "not_held": "✗", "refuted": "✗", "inconclusive": "?", "invalid": "!",
	"not_measured": "–", "not_measurable": "–", "improved": "▲", "regressed": "▼", "no change": "=", "can't tell": "?",
}

func status(s string) cell {
	return cell{strings.TrimSpace(statusMarks[s] + " " + strings.ReplaceAll(s, "_", " ")), "status " + strings.NewReplacer(" ", "-", "'", "", "_", "-").Replace(s)}
}

// headlineTable is the contenders at one point of the sweep.
func (v *view) headlineTable(point string) table {
	t := table{
		ID: stem("contenders", point), Title: "Contenders at " + point,
		Note:    "Throughput: verified answers, median over trials with its " + confidenceWords(v.throughputs(point)) + "; higher is better. Latency: median over trials, from the intended send time; lower is better.",
		Columns: []column{{"contender", false}, {"role", false}, {"throughput ↑", true}, {"p50 ↓", true}, {"p99 ↓", true}, {"p99.9 ↓", true}, {"acknowledges", false}},
	}
	if v.generatorLimits() {
		t.Note = "No rate or latency here is the contender's: the scenario lets the generator be the bottleneck."
	}
	for _, c := range v.Contenders {
		p := v.results[place{c.Name, point}]
		if p == nil {
			continue
		}
		row := []cell{{c.Name, c.Role}, plain(c.Role), p.throughput()}
		for _, name := range []string{"p50", "p99", "p999"} {
			value, measured := p.LatencyNs[name]
			if !measured {
				row = append(row, cell{quantity.NotMeasured, "absent"})
				continue
			}
			row = append(row, number(quantity.Ns, &value.Center))
		}
		t.Rows = append(t.Rows, append(row, plain(orAbsent(c.Durability))))
	}
	return t
}

// throughput is that of a point, with a mark when trials could not bear its rate.
func (p *PointResult) throughput() cell {
	c := interval(quantity.PerS, p.ThroughputPerS)
	if p.Overloaded > 0 {
		c.Text += fmt.Sprintf(", overloaded in %d of %d trials", p.Overloaded, p.Trials)
	}
	return c
}

// overloaded says that the contender could not bear the rate in half or more of
// its trials: the rule by which thresholds judge.
func (p *PointResult) overloaded() bool { return p.Overloaded > 0 && 2*p.Overloaded >= p.Trials }

func orAbsent(s string) string {
	if s == "" {
		return "not stated"
	}
	return s
}

func (v *view) contenderTable() table {
	t := table{ID: "who", Title: "Who took part", Columns: []column{{"contender", false}, {"role", false}, {"version", false}, {"what it is", false}}}
	for _, c := range v.Contenders {
		t.Rows = append(t.Rows, []cell{{c.Name, c.Role}, plain(c.Role), plain(orAbsent(c.Version)), plain(c.Doc)})
	}
	return t
}

func (v *view) billTable(point string) table {
	t := table{
		ID: stem("bill", point), Title: "Resource bill at " + point,
		Note: "What the contender's processes used per verified answer; medians over valid trials. Lower is better.",
		Columns: []column{{"contender", false}, {"CPU", true}, {"user", true}, {"system", true}, {"syscalls", true}, {"context switches", true},
			{"page faults", true}, {"written", true}, {"read", true}, {"RSS max", true}},
	}
	perOp := func(p *float64) cell { return number(quantity.Count, p) }
	for _, c := range v.Contenders {
		at := place{c.Name, point}
		if len(v.trials[at]) == 0 {
			continue
		}
		b := v.bill(at)
		t.Rows = append(t.Rows, []cell{{c.Name, c.Role}, interval(quantity.Ns, b.CPUNsPerOp), number(quantity.Ns, b.UserNsPerOp), number(quantity.Ns, b.SystemNsPerOp),
			perOp(b.SyscallsPerOp), perOp(b.SwitchesPerOp), perOp(b.FaultsPerOp),
			number(quantity.Bytes, b.WriteBytesPerOp), number(quantity.Bytes, b.ReadBytesPerOp), number(quantity.Bytes, b.RSSMaxBytes)})
	}
	return t
}

func thresholdTable(id, title, note string, all []ThresholdResult) table {
	t := table{ID: id, Title: title, Note: note, Columns: []column{{"threshold", false}, {"verdict", false}, {"measured", true}, {"limit", true}, {"where", false}, {"why", false}}}
	for _, r := range all {
		unit := r.Quantity()
		measured := interval(unit, r.CI)
		if r.CI == nil {
			measured = number(unit, r.Value)
		}
		t.Rows = append(t.Rows, []cell{plain(r.ID + ": " + r.Doc), status(r.Status), measured, plain(r.LimitText()), plain(r.where()), plain(r.Why)})
	}
	return t
}

func compareSign(compare string) string {
	return map[string]string{">=": "≥", "<=": "≤", "==": "="}[compare]
}

// where says what a threshold compares, and at which point.
func (r *ThresholdResult) where() string {
	parts := []string{}
	if r.Subject != "" {
		parts = append(parts, r.Subject)
	}
	if r.Against != "" {
		parts = append(parts, "against "+r.Against)
	}
	if r.Point != "" {
		parts = append(parts, "at "+r.Point)
	}
	return strings.Join(parts, " ")
}

func (v *view) oracleTable() table {
	o := v.Oracle
	count := func(n uint64) cell { return plain(fmt.Sprint(n)) }
	return table{ID: "oracle", Title: "Were the answers right?", Note: o.Note,
		Columns: []column{{"checked", true}, {"wrong", true}, {"lost", true}, {"phantom", true}},
		Rows:    [][]cell{{count(o.Checked), count(o.Wrong), count(o.Lost), count(o.Phantom)}}}
}

func (v *view) metricTable() table {
	t := table{ID: "metrics", Title: "Measured beside the trials", Columns: []column{{"what", false}, {"measured", true}, {"by", false}}}
	for _, m := range v.Metrics {
		unit := quantityOf(m.Name, m.Unit)
		value := cell{Text: unit.Format(m.Value)}
		if m.CI != nil {
			value.Text += " " + bounds(unit, m.CI)
		}
		t.Rows = append(t.Rows, []cell{plain(words(m.Name) + ": " + m.Doc), value, plain(m.Source)})
	}
	return t
}

// accountTable says what became of every request and of every trial.
func (v *view) accountTable() table {
	t := table{ID: "account", Title: "Every request accounted for",
		Note: "Sums over all trials, valid or not. Intended = sent + unsent; sent = answered + errors + timeouts + in flight. Lag: intended to actual send, the worst trial's p99. Generator: its busiest trial.",
		Columns: []column{{"contender", false}, {"trials", true}, {"void", true}, {"intended", true}, {"answered", true}, {"errors", true}, {"timeouts", true},
			{"unsent", true}, {"in flight", true}, {"waited", true}, {"lag p99 ↓", true}, {"generator busy", true}}}
	for _, c := range v.Contenders {
		var sum Counts
		trials, void, lag, busy := 0, 0, int64(0), 0.0
		for i := range v.Trials {
			trial := &v.Trials[i]
			if trial.Contender != c.Name {
				continue
			}
			trials++
			if trial.Status != "ok" {
				void++
			}
			sum.add(trial.Counts)
			lag, busy = max(lag, trial.LagNs.P99), max(busy, trial.Generator.BusyShare)
		}
		if trials == 0 {
			continue
		}
		row := []cell{{c.Name, c.Role}}
		for _, n := range []uint64{uint64(trials), uint64(void), sum.Intended, sum.Completed, sum.Errors, sum.Timeouts, sum.Unsent, sum.InFlight, sum.Waited} {
			row = append(row, plain(quantity.Count.Format(float64(n))))
		}
		t.Rows = append(t.Rows, append(row, plain(quantity.Ns.Format(float64(lag))), plain(quantity.Share.Format(busy))))
	}
	return t
}

func (c *Counts) add(o Counts) {
	c.Intended, c.Sent, c.Completed, c.Errors = c.Intended+o.Intended, c.Sent+o.Sent, c.Completed+o.Completed, c.Errors+o.Errors
	c.Timeouts, c.Wrong, c.Unsent, c.InFlight, c.Waited = c.Timeouts+o.Timeouts, c.Wrong+o.Wrong, c.Unsent+o.Unsent, c.InFlight+o.InFlight, c.Waited+o.Waited
}

// voidTable lists the trials that don't count, and why.
func (v *view) voidTable() table {
	t := table{ID: "void", Title: "Trials that don't count", Columns: []column{{"trial", true}, {"contender", false}, {"point", false}, {"round", true}, {"why", false}}}
	for _, trial := range v.Trials {
		if trial.Status != "ok" {
			t.Rows = append(t.Rows, []cell{plain(fmt.Sprint(trial.Order)), {trial.Contender, v.styles[trial.Contender].Role}, plain(trial.Point), plain(fmt.Sprint(trial.Round)), plain(trial.Status + ": " + trial.Reason)})
		}
	}
	return t
}

func (v *view) environmentTable() table {
	e := v.Environment
	t := table{ID: "environment", Title: "The machine", Columns: []column{{"", false}, {"", false}}}
	add := func(name, value string) {
		if value == "" {
			value = quantity.NotMeasured
		}
		t.Rows = append(t.Rows, []cell{plain(name), plain(value)})
	}
	add("host", e.Hostname)
	add("kernel", e.Kernel+" "+e.Arch)
	add("CPU", fmt.Sprintf("%d × %s", e.CPUs, e.CPUModel))
	for _, who := range slices.Sorted(maps.Keys(e.CPUPlan)) {
		add("CPUs of the "+who, strings.Trim(fmt.Sprint(e.CPUPlan[who]), "[]"))
	}
	add("memory", quantity.Bytes.Format(float64(e.MemoryBytes)))
	add("file system", e.Filesystem)
	add("disk", e.Disk)
	add("frequency governor", e.Governor)
	add("virtual", e.Virtual)
	add("nexus", strings.TrimSpace(e.NexusVersion+" "+e.GoVersion))
	for _, point := range slices.Sorted(maps.Keys(e.GeneratorCeilings)) {
		add("generator's ceiling, "+point, fmt.Sprintf("%.0f requests per CPU second", e.GeneratorCeilings[point]))
	}
	for _, tool := range slices.Sorted(maps.Keys(e.Tools)) {
		add(tool, e.Tools[tool])
	}
	return t
}

// tables are those that follow the charts, without the empty ones.
func (v *view) tables() []table {
	var all []table
	for _, point := range v.headlines() {
		all = append(all, v.billTable(point))
	}
	for _, point := range v.staged() {
		all = append(all, v.stageTable(point))
	}
	all = append(all,
		thresholdTable("gates", "Gates", "Ratios and correctness: they must hold on every machine, and their verdict is the run's.", v.Gates),
		thresholdTable("lesson", "The lesson's own numbers", "Absolute figures of the lesson: held or not held on this machine; they never fail the run.", v.LessonThresholds),
		v.claimTable(), v.oracleTable(), v.metricTable(), v.accountTable(), v.voidTable(), v.contenderTable(), v.environmentTable())
	return slices.DeleteFunc(all, func(t table) bool { return len(t.Rows) == 0 })
}

// summary is the outcome in one sentence for each gate.
func (v *view) summary() []string {
	var lines []string
	for _, g := range v.Gates {
		doc := strings.TrimSuffix(g.Doc, ".")
		if where := g.where(); where != "" {
			doc += " (" + where + ")"
		}
		lines = append(lines, fmt.Sprintf("%s: %s (limit %s)", doc, g.Quantity().FormatPtr(g.Value), g.LimitText()))
	}
	return lines
}
