package reports

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"
	"golang.org/x/perf/benchfmt"
)

func encoded(t testing.TB, r *Result) []byte {
	t.Helper()
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// small is a fixture without the bulk of its trials.
func small(t testing.TB) *Result {
	r := fixture(t, 1, 1)
	r.Trials = r.Trials[:4]
	return r
}

func TestReadRoundTrip(t *testing.T) {
	want := small(t)
	got, err := Read(bytes.NewReader(encoded(t, want)))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(want, got) {
		t.Error("a result changed on its way through JSON")
	}
}

func TestReadRefuses(t *testing.T) {
	whole := string(encoded(t, small(t)))
	replace := func(old, new string) string {
		if !strings.Contains(whole, old) {
			t.Fatalf("the fixture has no %s", old)
		}
		return strings.Replace(whole, old, new, 1)
	}
	for name, c := range map[string]struct{ text, want string }{
		"empty":                {"", "empty"},
		"blank":                {" \n\t", "empty"},
		"truncated":            {whole[:len(whole)/2], "truncated"},
		"truncated early":      {"{", "truncated"},
		"not JSON":             {"hello", "line 1, column 1"},
		"an array":             {"[]", "array"},
		"two objects":          {whole + whole, "after top-level value"},
		"empty object":         {"{}", "no schema_version"},
		"newer schema":         {replace(`"schema_version":1`, `"schema_version":2`), "schema_version is 2 and this program reads 1"},
		"schema as text":       {replace(`"schema_version":1`, `"schema_version":"1"`), "schema_version is 1 and"},
		"NaN":                  {replace(`"elapsed_ns":41500000000`, `"elapsed_ns":NaN`), "invalid character 'N'"},
		"null number":          {replace(`"elapsed_ns":41500000000`, `"elapsed_ns":null`), ".elapsed_ns is null"},
		"missing number":       {replace(`"elapsed_ns":41500000000,`, ``), ".elapsed_ns is missing"},
		"number too large":     {replace(`"elapsed_ns":41500000000`, `"elapsed_ns":1e400`), "cannot unmarshal"},
		"unknown key":          {replace(`"elapsed_ns"`, `"elapsed_s":1,"elapsed_ns"`), "unknown field"},
		"unknown verdict":      {replace(`"verdict":"fail"`, `"verdict":"fine"`), `verdict is "fine"`},
		"no contenders":        {replace(`"contenders":[`, `"contenders":null,"was":[`), "unknown field"},
		"nested missing":       {replace(`"lag_ns":{"count":2000,`, `"lag_ns":{`), "lag_ns.count is missing"},
		"fail without reason":  {replace(`"reasons":["gate`, `"reasons":[],"claims":[],"x":["gate`), "unknown field"},
		"interval upside down": {replace(`"lo":1550000000`, `"lo":1850000000`), "is no interval"},
	} {
		_, err := Read(strings.NewReader(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want it to say %q", name, err, c.want)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none.json")); err == nil {
		t.Error("a missing file was loaded")
	}
}

func TestSaveRefusesNaNAndKeepsTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "result.json")
	r := small(t)
	if err := Save(path, r); err != nil {
		t.Fatal(err)
	}
	r.Trials[0].ThroughputPerS = math.NaN()
	if err := Save(path, r); err == nil {
		t.Fatal("NaN was written")
	}
	if _, err := Load(path); err != nil {
		t.Errorf("the old file is gone: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v %v", entries, err)
	}
	if err := Save(filepath.Join(dir, "none", "result.json"), small(t)); err == nil {
		t.Error("writing into a missing folder succeeded")
	}
}

func TestWriteAllRefusesBeforeWriting(t *testing.T) {
	for name, spoil := range map[string]func(*Result){
		"no contenders":     func(r *Result) { r.Contenders = nil },
		"corrupt histogram": func(r *Result) { r.Trials[0].Histograms.LatencyHDR = "AAAA" },
		"unknown contender": func(r *Result) { r.Trials[0].Contender = "nobody" },
		"pass without value": func(r *Result) {
			r.Gates[0].Value = nil
		},
	} {
		r, dir := small(t), t.TempDir()
		spoil(r)
		if err := WriteAll(dir, r); err == nil {
			t.Errorf("%s: written", name)
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 0 {
			t.Errorf("%s: left %v", name, entries)
		}
	}
}

// The contract is what other work reads from stdout (the list of keys).
func TestJSONContract(t *testing.T) {
	r := small(t)
	r.Artifacts = map[string]string{"html": "report.html"}
	raw, err := JSONContract(r)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	for path, kind := range map[string]string{
		"schema_version": "float64", "day": "float64", "verdict": "string",
		"contenders.name": "string", "contenders.role": "string", "contenders.version": "string", "contenders.throughput_per_s": "float64",
		"contenders.latency_ns.p50": "float64", "contenders.latency_ns.p99": "float64", "contenders.latency_ns.p999": "float64",
		"gates.id": "string", "gates.status": "string", "gates.value": "float64", "gates.limit": "float64", "gates.unit": "string",
		"lesson_thresholds.id": "string", "lesson_thresholds.value": "float64",
		"claims.id": "string", "claims.verdict": "string", "claims.evidence": "string",
		"oracle.checked": "float64", "oracle.wrong": "float64", "oracle.lost": "float64", "oracle.phantom": "float64",
		"measured_by": "string", "not_measured": "string", "environment.kernel": "string", "artifacts.html": "string",
	} {
		if value := dig(got, path); value == nil || reflect.TypeOf(value).String() != kind {
			t.Errorf("%s is %v, want a %s", path, value, kind)
		}
	}
	if _, present := got["trials"]; present {
		t.Error("the trials are on stdout")
	}
	if len(raw) > 100_000 {
		t.Errorf("%d bytes", len(raw))
	}
}

// dig follows keys; of an array it takes the first element.
func dig(value any, path string) any {
	for key := range strings.SplitSeq(path, ".") {
		if list, is := value.([]any); is && len(list) > 0 {
			value = list[0]
		}
		object, is := value.(map[string]any)
		if !is {
			return nil
		}
		value = object[key]
	}
	if list, is := value.([]any); is && len(list) > 0 {
		return list[0]
	}
	return value
}

func TestSchemaGolden(t *testing.T) {
	reflector := jsonschema.Reflector{ExpandedStruct: true}
	schema := reflector.Reflect(&Result{})
	schema.Title, schema.ID = "nexus result, schema version 1", ""
	raw, err := json.MarshalIndent(schema, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "../result.schema.json", append(raw, '\n'))
}

// benchstat reads bench.txt with this package.
func TestBenchTextParses(t *testing.T) {
	r := fixture(t, 1, 1)
	reader := benchfmt.NewReader(bytes.NewReader(benchText(r)), "bench.txt")
	lines := 0
	for reader.Scan() {
		switch record := reader.Result().(type) {
		case *benchfmt.SyntaxError:
			t.Errorf("line %d: %s", record.Line, record.Msg)
		case *benchfmt.Result:
			lines++
			if record.GetConfig("goarch") != "amd64" || record.GetConfig("scenario") != r.Scenario {
				t.Fatalf("configuration lost: %v", record.Config)
			}
			for _, unit := range []string{"ops/s", "p50-sec", "p99-sec", "cpu-sec/op"} {
				if value, found := record.Value(unit); !found || value <= 0 {
					t.Errorf("%s: %s is %v, %v", record.Name, unit, value, found)
				}
			}
			if _, parts := record.Name.Parts(); len(parts) != 3 || !bytes.HasPrefix(parts[1], []byte("/contender=")) {
				t.Errorf("name %s has parts %q", record.Name, parts)
			}
		}
	}
	if err := reader.Err(); err != nil {
		t.Error(err)
	}
	if want := len(r.Trials) - 1; lines != want {
		t.Errorf("%d lines, want %d: one per valid trial", lines, want)
	}
}

func FuzzRead(f *testing.F) {
	tiny := small(f)
	tiny.Trials, tiny.Points, tiny.Claims = tiny.Trials[:1], tiny.Points[:1], nil
	tiny.Trials[0].Kernel, tiny.Trials[0].Timeline = tiny.Trials[0].Kernel[:1], tiny.Trials[0].Timeline[:2]
	f.Add(encoded(f, tiny))
	tiny.Trials = nil
	f.Add(encoded(f, tiny))
	f.Add([]byte(`{"schema_version":1}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := Read(bytes.NewReader(raw))
		if err != nil {
			return
		}
		// What is accepted can be shown or refused, and never panics.
		var out bytes.Buffer
		if err := Summary(&out, r, TerminalOptions{}); err != nil {
			return
		}
		v, err := newView(r)
		if err != nil {
			return
		}
		if _, err := v.htmlText(); err != nil {
			t.Errorf("accepted and can't be shown: %v", err)
		}
		v.markdown(nil)
		benchText(r)
	})
}

func FuzzBaseline(f *testing.F) {
	f.Add([]byte(`{"schema_version":1}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if b, err := parseBaseline(raw); err == nil && b.validate() != nil {
			t.Error("accepted and not valid")
		}
	})
}
