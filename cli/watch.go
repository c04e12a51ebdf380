package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/nexuscore-labs/nexus/scenarios"
)

const (
	watchEvery     = 250 * time.Millisecond // between two pictures
	watchLineEvery = 2 * time.Second        // between two lines where there is no terminal
)

func newWatch(t *terminal) *cobra.Command {
	return &cobra.Command{
		Use:   "watch [runs | run's folder]",
		Short: "Look on while a run goes on",
		Long: "Show a run while it goes on: rate, percentiles, shape of the latencies, where the time went,\n" +
			"gates so far and events. It only reads the run's folder: q or Ctrl-C ends the watching, not the\n" +
			"run. Of a folder with many runs it takes the newest. Where standard output is no terminal it\n" +
			"writes a line every two seconds; with --json each event is a line.\n\n" +
			"It ends with the run, and with the run's exit code (130 when the run was killed).",
		Example: "  nexus watch\n  nexus watch runs/day07-20260102-030405-quick\n  nexus watch --json | jq .tick",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "runs"
			if len(args) > 0 {
				path = args[0]
			}
			folder, err := watchedFolder(path)
			if err != nil {
				return err
			}
			reader, err := scenarios.OpenProgress(folder)
			if err != nil {
				return codeError{err, exitUsage}
			}
			defer reader.Close()
			return t.watch(cmd.Context(), reader)
		},
	}
}

// watchedFolder is the folder itself when a run is in it, or the newest run
// below.
func watchedFolder(path string) (string, error) {
	if isRun(path) {
		return path, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return "", codeError{fmt.Errorf("look for a run to watch: %w", err), exitUsage}
	}
	newest, newestAt := "", time.Time{}
	for _, e := range entries {
		below := filepath.Join(path, e.Name())
		info, err := os.Stat(filepath.Join(below, scenarios.ProgressFile))
		if err == nil && info.ModTime().After(newestAt) {
			newest, newestAt = below, info.ModTime()
		}
	}
	if newest == "" {
		return "", usagef("no run to watch in %s: start one with nexus run", path)
	}
	return newest, nil
}

func isRun(path string) bool {
	_, err := os.Stat(filepath.Join(path, scenarios.ProgressFile))
	return !errors.Is(err, fs.ErrNotExist) && err == nil
}

// watch follows the run until it ends, or until the user does.
func (t *terminal) watch(ctx context.Context, reader *scenarios.ProgressReader) error {
	state := &watchState{}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var show watchShow
	switch {
	case t.json:
		show = &watchJSON{encoder: json.NewEncoder(t.stdout)}
	case isScreen(t.stdout):
		screen, err := openScreen(t.stdout, cancel)
		if err != nil {
			return err
		}
		defer screen.close()
		show = screen
	default:
		show = &watchLines{out: t.stdout}
	}
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		dead := state.dead() // before reading: what it wrote last is then read
		news, err := reader.Next()
		if err != nil {
			return codeError{err, exitEnvironment}
		}
		for _, p := range news {
			state.apply(p)
		}
		state.malformed = reader.Malformed
		ended := state.ended != nil || dead
		if err := show.show(state, news, ended); err != nil {
			return err
		}
		if ended {
			return state.outcome()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// outcome is the run's own exit code.
func (s *watchState) outcome() error {
	switch {
	case s.ended == nil:
		return codeError{fmt.Errorf("the run was killed; go on with: nexus run --resume %s", s.run.Folder), scenarios.ExitInterrupted}
	case s.ended.ExitCode != exitPass:
		return verdictError{s.ended.ExitCode}
	}
	return nil
}

// watchShow is a way to show a run.
type watchShow interface {
	show(state *watchState, news []scenarios.Progress, ended bool) error
}

type watchJSON struct{ encoder *json.Encoder }

func (w *watchJSON) show(_ *watchState, news []scenarios.Progress, _ bool) error {
	for _, p := range news {
		if err := w.encoder.Encode(p); err != nil {
			return fmt.Errorf("write an event: %w", err)
		}
	}
	return nil
}

type watchLines struct {
	out  io.Writer
	last time.Time
}

func (w *watchLines) show(state *watchState, _ []scenarios.Progress, ended bool) error {
	now := time.Now()
	if !ended && now.Sub(w.last) < watchLineEvery {
		return nil
	}
	w.last = now
	if _, err := fmt.Fprintln(w.out, state.line(now)); err != nil {
		return fmt.Errorf("write the run's state: %w", err)
	}
	return nil
}

// screen draws pictures over each other on a terminal. The last one stays.
type screen struct {
	out    *os.File
	colour bool
	keys   *os.File // the terminal whose keys are read, nil where there is none
	before *term.State
	lines  []string // of the last picture
}

// Escapes of every terminal since the VT100: the alternate screen keeps what
// was on it before.
const (
	screenOpen  = "\x1b[?1049h\x1b[?25l\x1b[2J"
	screenClose = "\x1b[?25h\x1b[?1049l"
)

// isScreen reports whether pictures can be drawn on out. A dumb terminal has no
// cursor to move.
func isScreen(out io.Writer) bool {
	file, is := out.(*os.File)
	return is && term.IsTerminal(int(file.Fd())) && os.Getenv("TERM") != "dumb"
}

// openScreen takes the terminal; quit is called when the user asks for it.
func openScreen(out io.Writer, quit func()) (*screen, error) {
	s := &screen{out: out.(*os.File), colour: colour(out)}
	if quit != nil && term.IsTerminal(int(os.Stdin.Fd())) {
		before, err := term.MakeRaw(int(os.Stdin.Fd()))
		if err != nil {
			return nil, codeError{fmt.Errorf("read keys: %w", err), exitEnvironment}
		}
		s.keys, s.before = os.Stdin, before
		go s.read(quit)
	}
	_, err := s.out.WriteString(screenOpen)
	return s, err
}

// read waits for q, Q, Ctrl-C or Ctrl-D. It ends with the process.
func (s *screen) read(quit func()) {
	var key [1]byte
	for {
		n, err := s.keys.Read(key[:])
		if err != nil {
			return
		}
		if n == 1 && strings.ContainsRune("qQ\x03\x04", rune(key[0])) {
			quit()
			return
		}
	}
}

func (s *screen) show(state *watchState, _ []scenarios.Progress, _ bool) error {
	columns, rows, err := term.GetSize(int(s.out.Fd()))
	if err != nil || columns == 0 || rows == 0 { // a serial line or a bare pty tells no size
		columns, rows = 80, 24
	}
	s.lines = state.render(time.Now(), columns, rows, s.colour)
	var b strings.Builder
	b.WriteString("\x1b[H")
	for i, line := range s.lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(line + "\x1b[K")
	}
	b.WriteString("\x1b[J")
	if _, err := s.out.WriteString(b.String()); err != nil {
		return fmt.Errorf("write to the terminal: %w", err)
	}
	return nil
}

// close gives the terminal back, with the last picture left on it.
func (s *screen) close() {
	if s.before != nil {
		_ = term.Restore(int(s.keys.Fd()), s.before)
	}
	text := screenClose
	for _, line := range s.lines {
		text += line + "\n"
	}
	_, _ = s.out.WriteString(text)
}
