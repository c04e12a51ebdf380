package surreal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/rocksprobe"
)

// The layout of keys and values is held against the engine: the probe sees what
// it writes, and what this package reads must be what was asked for.

// watch opens the probe on the server's RocksDB.
func watch(t testing.TB, s *Server, options rocksprobe.Options) *rocksprobe.Probe {
	t.Helper()
	if unix.Geteuid() != 0 {
		t.Skip("BPF tracing programs need root")
	}
	if s.Library == "" || s.Process == 0 {
		t.Skipf("a %s runs elsewhere", s.Kind)
	}
	target, err := rocksprobe.Resolve(s.Library)
	if errors.Is(err, rocksprobe.ErrUnknownBuild) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	options.Process = s.Process
	p, err := rocksprobe.Open(target, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// records reads what was published of one table's records until it is quiet.
func records(t testing.TB, p *rocksprobe.Probe, table string) []rocksprobe.Change {
	t.Helper()
	var all []rocksprobe.Change
	for {
		var c rocksprobe.Change
		err := p.Read(&c, time.Now().Add(100*time.Millisecond))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if found, _, err := cutTable(c.Key); err != nil || found != table {
			continue
		}
		c.Key, c.Value = bytes.Clone(c.Key), bytes.Clone(c.Value)
		all = append(all, c)
	}
}

func TestKeys(t *testing.T) {
	s := use(t)
	if err := KnownLayout(s.Version); err != nil {
		t.Skip(err)
	}
	db := connect(t, s)
	query(t, db, "DEFINE TABLE keyed; DEFINE INDEX byname ON keyed FIELDS name")
	p := watch(t, s, rocksprobe.Options{})
	for name, c := range map[string]struct {
		id   string
		want Key
	}{
		"number":   {"1", Key{Kind: IntID, Int: 1}},
		"negative": {"-5", Key{Kind: IntID, Int: -5}},
		"large":    {"9223372036854775807", Key{Kind: IntID, Int: 1<<63 - 1}},
		"text":     {"abc", Key{Kind: StringID, Text: "abc"}},
		"spaces":   {"`two words`", Key{Kind: StringID, Text: "two words"}},
		"unicode":  {"`süß`", Key{Kind: StringID, Text: "süß"}},
		"uuid": {"u'0190a0a0-0000-7000-8000-000000000001'", Key{Kind: UUIDID,
			UUID: [16]byte{0x01, 0x90, 0xa0, 0xa0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 1}}},
		"array":  {"[1, 'x']", Key{Kind: ArrayID}},
		"object": {"{a: 1}", Key{Kind: ObjectID}},
	} {
		t.Run(name, func(t *testing.T) {
			query(t, db, "CREATE keyed:"+c.id+" SET name = 'x'")
			query(t, db, "DELETE keyed:"+c.id)
			changes := records(t, p, "keyed")
			if len(changes) != 2 || changes[0].Kind != rocksprobe.Put || changes[1].Kind != rocksprobe.Delete {
				t.Fatalf("changes %+v", changes)
			}
			for _, change := range changes {
				k, err := ParseKey(change.Key)
				if err != nil {
					t.Fatal(err)
				}
				c.want.NamespaceID, c.want.DatabaseID, c.want.Table, c.want.Raw = k.NamespaceID, k.DatabaseID, "keyed", k.Raw
				if !reflect.DeepEqual(k, c.want) {
					t.Errorf("key %+v, want %+v", k, c.want)
				}
			}
		})
	}
}

func TestValues(t *testing.T) {
	s := use(t)
	if err := KnownLayout(s.Version); err != nil {
		t.Skip(err)
	}
	db := connect(t, s)
	query(t, db, "DEFINE TABLE valued")
	p := watch(t, s, rocksprobe.Options{})
	for text, want := range map[string]map[string]any{
		"a = 1, b = -3, c = 250, d = 65000, e = -9223372036854775807": {"a": int64(1), "b": int64(-3), "c": int64(250), "d": int64(65000), "e": int64(-9223372036854775807)},
		"a = 1.5, b = true, c = false, d = NULL, e = 'text', f = ''":  {"a": 1.5, "b": true, "c": false, "d": nil, "e": "text", "f": ""},
		"v = [1.5, -2.25, 3], w = []":                                 {"v": []any{1.5, -2.25, int64(3)}, "w": []any{}},
		"o = {a: 1, l: [1, {b: 'x'}]}":                                {"o": map[string]any{"a": int64(1), "l": []any{int64(1), map[string]any{"b": "x"}}}},
		"s = string::repeat('x', 70000)":                              nil, // its length is checked below
		"t = d'2026-11-29T08:00:00.123456789Z'":                       {"t": time.Date(2026, 11, 29, 8, 0, 0, 123456789, time.UTC)},
		"t = d'1960-01-01T00:00:00Z'":                                 {"t": time.Date(1960, 1, 1, 0, 0, 0, 0, time.UTC)},
		"l = person:1":                                                nil, // refused
		"x = 1.5dec":                                                  nil,
	} {
		t.Run(text, func(t *testing.T) {
			query(t, db, "CREATE valued SET "+text)
			changes := records(t, p, "valued")
			if len(changes) != 1 {
				t.Fatalf("%d changes", len(changes))
			}
			got, err := ParseValue(changes[0].Value)
			long, isText := got["s"].(string)
			switch {
			case text[0] == 's' && (!isText || len(long) != 70000):
				t.Errorf("a long text came as %d bytes: %v", len(long), err)
			case want == nil && text[0] != 's' && !errors.Is(err, ErrUnknown):
				t.Errorf("%v, %v: want a refusal", got, err)
			case want != nil && (err != nil || !reflect.DeepEqual(got, want)):
				t.Errorf("read %v, %v, want %v", got, err, want)
			}
		})
	}
}

func TestVector(t *testing.T) {
	s := use(t)
	if err := KnownLayout(s.Version); err != nil {
		t.Skip(err)
	}
	db := connect(t, s)
	query(t, db, "DEFINE TABLE vectors")
	p := watch(t, s, rocksprobe.Options{})
	query(t, db, "CREATE vectors:1 SET other = 'x', v = [1.5, -2.25, 3, 0.1]")
	changes := records(t, p, "vectors")
	if len(changes) != 1 {
		t.Fatalf("%d changes", len(changes))
	}
	v, found, err := AppendVector(nil, changes[0].Value, "v")
	if err != nil || !found || !reflect.DeepEqual(v, []float32{1.5, -2.25, 3, 0.1}) {
		t.Errorf("%v, %v, %v", v, found, err)
	}
	if _, found, err := AppendVector(nil, changes[0].Value, "w"); found || err != nil {
		t.Errorf("a field that isn't there: %v, %v", found, err)
	}
	if _, _, err := AppendVector(nil, changes[0].Value, "other"); !errors.Is(err, ErrUnknown) {
		t.Errorf("a text as a vector: %v", err)
	}
}

// TestPublishesOnlyWhatCommits is the probe against the real engine: the numbers
// of the ledger.
func TestPublishesOnlyWhatCommits(t *testing.T) {
	s := use(t)
	db := connect(t, s)
	query(t, db, "DEFINE TABLE person; CREATE person:0 SET name = 'before'")
	p := watch(t, s, rocksprobe.Options{Census: true})
	const n = 25
	for i := 1; i <= n; i++ {
		query(t, db, fmt.Sprintf("CREATE person:%d SET name = 'a'", i))
	}
	created := records(t, p, "person")
	if len(created) != n {
		t.Errorf("%d changes of %d creates", len(created), n)
	}
	for i := 1; i <= n; i++ {
		for _, end := range []string{"CANCEL", "THROW 'no'; COMMIT"} {
			text := fmt.Sprintf("BEGIN; UPDATE person:%d SET name = 'never'; CREATE person SET name = 'never'; %s", i, end)
			if _, err := queryErr(t, db, text); err == nil {
				t.Errorf("%s reports nothing", text)
			}
		}
	}
	if got := records(t, p, "person"); len(got) != 0 {
		t.Errorf("%d changes of transactions that never committed", len(got))
	}
	counters, err := p.Counters()
	if err != nil {
		t.Fatal(err)
	}
	if counters.Lost() != 0 || counters.Rollbacks < 2*n || counters.Puts < n+4*n {
		t.Errorf("%+v", counters)
	}
	t.Logf("%d creates and %d transactions rolled back: %d puts, %d commits, %d rollbacks; %d records committed",
		n, 2*n, counters.Puts, counters.Commits, counters.Rollbacks, counters.Records)
}

func FuzzParseKey(f *testing.F) {
	f.Add([]byte("/*\x00\x00\x00\x01*\x00\x00\x00\x00*person\x00*\x02\x80\x00\x00\x00\x00\x00\x00\x01"))
	f.Add([]byte("/*\x00\x00\x00\x01*\x00\x00\x00\x00*person\x00*\x03a\x01\x00b\x00"))
	f.Fuzz(func(t *testing.T, key []byte) {
		k, err := ParseKey(key)
		if err != nil {
			if !errors.Is(err, ErrUnknown) {
				t.Errorf("%v", err)
			}
			return
		}
		if !IsRecord(key) || k.Table == "" || !bytes.HasSuffix(key, k.Raw) {
			t.Errorf("%q is %+v", key, k)
		}
		_ = k.ID()
	})
}

func FuzzParseValue(f *testing.F) {
	f.Add([]byte("\x01\x00\x01\n\x01\x02\x04name\x01\x04\x01x\x01v\x01\b\x01\x02\x01\x03\x01\x01\x00\x00\x00\x00\x00\x00\xf8?\x01\x03\x01\x00\x05"))
	f.Fuzz(func(t *testing.T, value []byte) {
		fields, err := ParseValue(value)
		if err != nil && !errors.Is(err, ErrUnknown) {
			t.Errorf("%v", err)
		}
		v, found, vectorErr := AppendVector(nil, value, "v")
		if err != nil || vectorErr != nil {
			return
		}
		list, isList := fields["v"].([]any)
		if found && (!isList || len(list) < len(v)) {
			t.Errorf("a vector of %d, the field is %v", len(v), fields["v"])
		}
	})
}
