package scenarios

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
)

// procsMin is the least GOMAXPROCS of a contender's process.
const procsMin = 2

// serveArgs are the arguments of a contender's process, in both directions.
type serveArgs struct {
	day       int
	contender string
	dir       string
	network   string
	host      string // where to listen
	device    string // interface in the contender's own network namespace; empty: none
	fd        int
	params    map[string]string
}

// list is the command line behind the binary's name.
func (a serveArgs) list() []string {
	args := []string{
		"serve", fmt.Sprintf("--day=%d", a.day), "--contender=" + a.contender, "--dir=" + a.dir,
		"--network=" + a.network, "--host=" + a.host, fmt.Sprintf("--fd=%d", a.fd),
	}
	if a.device != "" {
		args = append(args, "--device="+a.device)
	}
	for _, key := range sortedKeys(a.params) {
		args = append(args, "--param="+key+"="+a.params[key])
	}
	return args
}

func parseServeArgs(args []string) (serveArgs, error) {
	a := serveArgs{params: map[string]string{}}
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	flags.SetOutput(devNull{})
	flags.IntVar(&a.day, "day", 0, "")
	flags.StringVar(&a.contender, "contender", "", "")
	flags.StringVar(&a.dir, "dir", "", "")
	flags.StringVar(&a.network, "network", "", "")
	flags.StringVar(&a.host, "host", loopbackHost, "")
	flags.StringVar(&a.device, "device", "", "")
	flags.IntVar(&a.fd, "fd", handshakeFD, "")
	flags.Func("param", "", func(pair string) error {
		key, value, found := strings.Cut(pair, "=")
		if !found || key == "" {
			return errors.New("want key=value")
		}
		a.params[key] = value
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return a, usageError("`nexus serve` is started by `nexus run`", "serve: %w", err)
	}
	if a.contender == "" || a.dir == "" || a.network == "" || flags.NArg() > 0 {
		return a, usageError("`nexus serve` is started by `nexus run`", "serve: --contender, --dir and --network are needed, and nothing else %v", flags.Args())
	}
	return a, nil
}

type devNull struct{}

func (devNull) Write(p []byte) (int, error) { return len(p), nil }

// ServeDay returns the day in the arguments of a contender's process, those
// behind the word serve, so that the caller can find the lab for ServeChild.
func ServeDay(args []string) (int, error) {
	a, err := parseServeArgs(args)
	return a.day, err
}

// ServeChild is a contender's process: it serves until SIGTERM (or the end of
// ctx), tells the runner on the inherited pipe how it went, and returns. args
// are those behind the word serve. A panic is reported like an error.
func ServeChild(ctx context.Context, lab *Lab, args []string) error {
	a, err := parseServeArgs(args)
	if err != nil {
		return err
	}
	var chosen *Contender
	names := make([]string, len(lab.Contenders))
	for i := range lab.Contenders {
		names[i] = lab.Contenders[i].Name
		if names[i] == a.contender {
			chosen = &lab.Contenders[i]
		}
	}
	if chosen == nil {
		return usageError(oneOf(names), "serve: day %d has no contender %q", lab.Day, a.contender)
	}
	pipe := os.NewFile(uintptr(a.fd), "handshake")
	if pipe == nil {
		return usageError("`nexus serve` is started by `nexus run`", "serve: descriptor %d is not open", a.fd)
	}
	defer pipe.Close()
	// Contenders may start programs of their own; those must not keep the pipe.
	syscall.CloseOnExec(a.fd)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()

	// Pinned to one CPU, Go would run with one P: every thread that blocks in a
	// system call for 20 µs loses it to the monitor, which wakes another thread
	// to look for work. The threads stay pinned, so two Ps add no parallelism.
	// Measured: fsync-append +13% throughput, seglog −33% CPU per record,
	// etcd-wal ±2%. It is the same for every contender, to be fair.
	if runtime.GOMAXPROCS(0) < procsMin {
		runtime.GOMAXPROCS(procsMin)
	}
	report := &reporter{pipe: pipe, stats: map[string]float64{}}
	served := serve(ctx, chosen, ServeEnv{
		Dir: a.dir, Network: a.network, Host: a.host, Device: a.device, Params: a.params, Ready: report.Ready, Stat: report.Stat,
	})
	if err := errors.Join(served, report.finish(served)); err != nil {
		return contenderError("", "serve %s: %w", a.contender, err)
	}
	return nil
}

func serve(ctx context.Context, c *Contender, env ServeEnv) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return c.Serve(ctx, env)
}

// blamesMachine reports whether an error is the machine's and not the
// contender's fault.
func blamesMachine(err error) bool {
	for _, cause := range []error{
		syscall.EADDRINUSE, syscall.EADDRNOTAVAIL, syscall.EACCES, syscall.EPERM, syscall.EROFS,
		syscall.ENOSYS, syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM,
	} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return false
}
