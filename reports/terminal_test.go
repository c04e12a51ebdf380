package reports

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/jedib0t/go-pretty/v6/text"
)

func TestSummaryGolden(t *testing.T) {
	r := fixture(t, 1, 1)
	for name, opts := range map[string]TerminalOptions{
		"terminal-120.txt": {Width: 120}, "terminal-80.txt": {}, "terminal-50.txt": {Width: 50},
	} {
		var out bytes.Buffer
		if err := Summary(&out, r, opts); err != nil {
			t.Fatal(err)
		}
		golden(t, name, out.Bytes())
		limit := max(opts.Width, 0)
		if limit == 0 {
			limit = defaultWidth
		}
		for line := range strings.Lines(out.String()) {
			if width := text.StringWidth(strings.TrimRight(line, "\n")); width > limit {
				t.Errorf("%s: a line is %d columns wide: %q", name, width, line)
			}
		}
	}
}

func TestSummaryRespectsNoColour(t *testing.T) {
	r := fixture(t, 1, 1)
	for noColour, want := range map[string]bool{"": true, "1": false} {
		t.Setenv("NO_COLOR", noColour)
		var out bytes.Buffer
		if err := Summary(&out, r, TerminalOptions{Colour: true, Width: 100}); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(out.String(), "\x1b["); got != want {
			t.Errorf("NO_COLOR=%q: escape sequences written: %v, want %v", noColour, got, want)
		}
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestSummaryReportsWriteErrors(t *testing.T) {
	if err := Summary(brokenPipe{}, fixture(t, 1, 1), TerminalOptions{}); err == nil {
		t.Error("a failed write was not reported")
	}
}
