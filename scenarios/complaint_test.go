package scenarios

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestComplaints breaks testdata/base.yaml in one way per file and looks at
// what is said about it: file:line:column, message, nearest valid name.
//
//	edit [mode=full] [set=(path=value …)]
//	<text of the base> => <text in its place; \n is a new line>
func TestComplaints(t *testing.T) {
	base, err := os.ReadFile("testdata/base.yaml")
	if err != nil {
		t.Fatal(err)
	}
	datadriven.Walk(t, "testdata/complaints", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "edit" {
				d.Fatalf(t, "unknown command %s", d.Cmd)
			}
			mode := ModeQuick
			d.MaybeScanArgs(t, "mode", &mode)
			var sets []string
			for _, arg := range d.CmdArgs {
				if arg.Key == "set" {
					sets = append(sets, arg.Vals...)
				}
			}
			text := string(base)
			for _, line := range strings.Split(d.Input, "\n") {
				if line == "" {
					continue
				}
				old, replacement, found := strings.Cut(line, " => ")
				if !found || strings.Count(text, old) != 1 {
					d.Fatalf(t, "edit %q: the base must hold the text once", line)
				}
				text = strings.Replace(text, old, strings.ReplaceAll(replacement, `\n`, "\n"), 1)
			}
			s, err := Parse("base.yaml", []byte(text), mode, sets)
			if err == nil {
				return fmt.Sprintf("ok: %d points, %d contenders\n", len(s.Points), len(s.Contenders))
			}
			var coded interface{ ExitCode() int }
			if !errors.As(err, &coded) || coded.ExitCode() != ExitUsage {
				t.Errorf("%v does not carry exit code %d", err, ExitUsage)
			}
			return err.Error() + "\n"
		})
	})
}

func TestNearest(t *testing.T) {
	valid := []string{"trials", "warmup", "duration", "timeout", "popularity"}
	for wrong, want := range map[string]string{
		"trial": "trials", "Trials": "trials", "wramup": "warmup", "duraton": "duration", "popluarity": "popularity",
		"xyz": "", "": "", "a": "",
	} {
		if got := nearest(wrong, valid); got != want {
			t.Errorf("nearest(%q) = %q, want %q", wrong, got, want)
		}
	}
}

func TestUnits(t *testing.T) {
	cases := []struct {
		into scalar
		text string
		want float64 // canonical; negative: refused
		near string
	}{
		{new(rate), "20k/s", 20e3, ""}, {new(rate), "1.5M/s", 1.5e6, ""}, {new(rate), "7/s", 7, ""},
		{new(rate), "20k", -1, "20k/s"}, {new(rate), "20", -1, "20/s"}, {new(rate), "fast", -1, ""}, {new(rate), "-3/s", -1, ""},
		{new(rate), "20k/sec", -1, "20k/s"},
		{new(span), "30s", 30e9, ""}, {new(span), "1m30s", 90e9, ""}, {new(span), "400ms", 4e8, ""}, {new(span), "0s", 0, ""},
		{new(span), "30", -1, "30s"}, {new(span), "5sec", -1, "5s"}, {new(span), "1e400s", -1, ""},
		{new(size), "4KiB", 4096, ""}, {new(size), "100B", 100, ""}, {new(size), "1.5KiB", 1536, ""}, {new(size), "1GB", 1e9, ""},
		{new(size), "4kib", -1, "4KiB"}, {new(size), "0.5B", -1, ""}, {new(size), "4096", -1, "4096B"},
		{new(quantity), "20", 20, ""}, {new(quantity), "0.2", 0.2, ""}, {new(quantity), "1GB/s", 1e9, ""}, {new(quantity), "-1", -1e-9, ""},
		{new(quantity), "NaN", -1, ""}, {new(quantity), "inf", -1, ""}, {new(quantity), "1ms", 1e6, ""},
		{new(Popularity), "zipf(0.99)", 0.99, ""}, {new(Popularity), "uniform", 0, ""}, {new(Popularity), "zip(1)", -1, "zipf(0.99)"},
		{new(Popularity), "zipf(NaN)", -1, "zipf(0.99)"}, {new(Popularity), "zipf(0)", -1, "zipf(0.99)"},
		{new(SizeRange), "uniform(100B, 4KiB)", 4096, ""}, {new(SizeRange), "512B", 512, ""}, {new(SizeRange), "uniform(4KiB, 1B)", -1, ""},
		{new(SizeRange), "unifrom(1B, 2B)", -1, "uniform(1B, 2B)"}, {new(SizeRange), "uniform(1B)", -1, ""},
	}
	for _, c := range cases {
		near, err := c.into.parse(c.text)
		switch {
		case c.want == -1 && err == nil:
			t.Errorf("%T %q was accepted as %g", c.into, c.text, c.into.canonical())
		case c.want != -1 && err != nil:
			t.Errorf("%T %q: %v", c.into, c.text, err)
		case c.want >= 0 && c.into.canonical() != c.want:
			t.Errorf("%T %q = %g, want %g", c.into, c.text, c.into.canonical(), c.want)
		}
		if near != c.near {
			t.Errorf("%T %q: nearest %q, want %q", c.into, c.text, near, c.near)
		}
	}
}
