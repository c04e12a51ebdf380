package day10

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/netbed"
	"github.com/nexuscore-labs/nexus/bpf/projcache"
	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
)

// checkReload asks without pause while the loader ends and starts again and each new
// program takes the place of the last. Nobody listens in user space: what the driver
// does not answer is lost.
func checkReload(ctx context.Context, env scenarios.CheckEnv) (found scenarios.CheckResult, err error) {
	mount := filepath.Join(env.Dir)
	if err := unix.Mount("bpf", mount, "bpf", 0, "mode=0700"); err != nil {
		return found, fmt.Errorf("mount a BPF file system: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Unmount(mount, unix.MNT_DETACH)) }()
	bed, err := netbed.New(netbed.Options{Name: machine.LeftoverName()})
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, bed.Close()) }()
	if err := bed.Client.PassThrough(); err != nil {
		return found, err
	}
	options := projcache.Options{Slots: 64, Tenants: 2, Pins: filepath.Join(mount, "cache")}
	if _, err := load(bed, options, true); err != nil {
		return found, err
	}
	asking, stop := context.WithCancel(ctx)
	var asked atomic.Uint64
	done := make(chan error, 1)
	go func() { done <- bed.Client.Run(func() error { return askUntil(asking, &asked) }) }()
	reloads := int(env.Params["reloads"])
	replaced := 0
	for n := range reloads {
		a, loadErr := load(bed, options, false)
		if loadErr != nil {
			stop()
			return found, errors.Join(loadErr, <-done)
		}
		if a.Replaced {
			replaced++
		}
		time.Sleep(2 * time.Millisecond) // some requests for each program
		env.Progress(n+1, reloads)
	}
	stop()
	lost := 0.0
	evidence := "every one was answered"
	if err := <-done; err != nil {
		lost, evidence = 1, err.Error()
	}
	found.Metrics = []reports.Metric{
		metric("reload_lost_requests", "count", lost, "requests lost in %d requests over %d restarts of the loader, the first ends the check: %s", asked.Load(), replaced, evidence),
	}
	found.Oracle = reports.OracleResult{Checked: asked.Load(), Lost: uint64(lost)}
	found.Claims = []reports.ClaimResult{decide("pinned-maps-survive", lost == 0 && replaced == reloads,
		"%d loaders ended and %d took over what was pinned, under %d requests: %s", reloads, replaced, asked.Load(), evidence)}
	return found, nil
}

// load is a loader's life: it opens what is pinned, puts its program in, and ends.
func load(bed *netbed.Bed, options projcache.Options, first bool) (a *projcache.Attachment, err error) {
	cache, err := projcache.Open(options)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cache.Close()) }()
	if first {
		if err := cache.SetSnapshot(1, 1); err != nil {
			return nil, err
		}
		if err := cache.Put(projcache.Key{Tenant: 1, Projection: 1, Snapshot: 1}, 1, []byte("kept")); err != nil {
			return nil, err
		}
	}
	program, err := cache.Load(projcache.Service{Port: portOfTests, IPv4: netbed.ServerIPv4})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, program.Close()) }()
	err = bed.Server.Run(func() (err error) {
		a, err = cache.Attach(program, bed.Server.Index)
		return err
	})
	if err != nil {
		return nil, err
	}
	return a, a.Close()
}

// askUntil sends one request after the other and returns how the first was lost.
func askUntil(ctx context.Context, asked *atomic.Uint64) error {
	conn, err := net.Dial("udp", netip.AddrPortFrom(netbed.ServerIPv4, portOfTests).String())
	if err != nil {
		return err
	}
	defer conn.Close()
	answer := make([]byte, 2048)
	body := make([]byte, 64)
	body[0] = 1
	for id := uint64(1); ctx.Err() == nil; id++ {
		get := frame.Append(nil, frame.Frame{Kind: frame.KindGet, Flags: frame.FlagUnchecked, Tenant: 1, ID: id, Body: body})
		if _, err := conn.Write(get); err != nil {
			return fmt.Errorf("send request %d: %w", id, err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return err
		}
		n, err := conn.Read(answer)
		if err != nil {
			return fmt.Errorf("request %d was lost: %w", id, err)
		}
		f, err := frame.ParseDatagram(answer[:n])
		if err != nil || f.ID != id || len(f.Body) != bodyHeaderLen+len("kept") {
			return fmt.Errorf("request %d was answered wrongly: %w", id, err)
		}
		asked.Add(1)
	}
	return nil
}
