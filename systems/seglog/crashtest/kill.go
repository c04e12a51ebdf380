package crashtest

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/nexuscore-labs/nexus/systems/seglog"
)

const (
	killTenants  = 24
	killDelayMax = 60 * time.Millisecond // between the first acknowledgement and the kill
	killRounds   = 8                     // kills in a row of one log
	firstAckMax  = 10 * time.Second      // from a child's start to its first acknowledgement
	// AckLen is the length of one acknowledgement as ChildMain writes it, bytes.
	AckLen = 12
)

// killPayload is what a tenant's record of that sequence must hold.
func killPayload(seed uint64, tenant uint32, seq uint64) []byte {
	x := seed ^ uint64(tenant)<<40 ^ seq
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	return payload(x^x>>27, int(x%2500))
}

// ChildMain is the process that is killed: it appends to the log with one
// goroutine per tenant, and writes each acknowledgement (u32 tenant, u64
// sequence, little-endian) to its standard output. It returns the exit code.
func ChildMain(args []string) int {
	flags := flag.NewFlagSet("crashtest child", flag.ContinueOnError)
	dir := flags.String("dir", "", "folder of the log")
	seed := flags.Uint64("seed", 0, "seed of the payloads")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if err := child(*dir, *seed); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// child ends only by an error, or by being killed.
func child(dir string, seed uint64) error {
	log, err := seglog.Open(dir, killOptions())
	if err != nil {
		return err
	}
	failed := make(chan error, killTenants)
	var mu sync.Mutex // one acknowledgement after the other
	for tenant := range uint32(killTenants) {
		go func() {
			_, last := log.Range(tenant)
			for seq := last + 1; ; seq++ {
				got, err := log.Append(context.Background(), tenant, killPayload(seed, tenant, seq))
				if err == nil && got != seq {
					err = fmt.Errorf("crashtest: tenant %d got sequence %d, want %d", tenant, got, seq)
				}
				if err == nil {
					var ack [AckLen]byte
					binary.LittleEndian.PutUint32(ack[0:], tenant)
					binary.LittleEndian.PutUint64(ack[4:], seq)
					mu.Lock()
					_, err = os.Stdout.Write(ack[:])
					mu.Unlock()
				}
				if err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	return <-failed
}

func killOptions() seglog.Options {
	return seglog.Options{SegmentBytes: 1 << 20, BatchBytes: 128 << 10}
}

// killTrials kills one child after the other; several in a row work on the
// same log, so that recoveries of recoveries are tried as well.
func killTrials(ctx context.Context, o Options) (Counts, error) {
	var total Counts
	if o.Self == "" || o.Dir == "" {
		return total, errors.New("crashtest: kill needs Options.Self and Options.Dir")
	}
	rng := rngFor(o.Seed, 0, 5)
	var acked map[uint32]uint64
	dir := ""
	for i := range o.Points {
		if i%killRounds == 0 {
			if dir != "" {
				_ = os.RemoveAll(dir)
			}
			dir, acked = filepath.Join(o.Dir, fmt.Sprintf("kill%d", i)), map[uint32]uint64{}
		}
		delay := time.Duration(rng.Int64N(int64(killDelayMax)))
		if err := killOne(ctx, o, dir, acked, delay); err != nil {
			return total, err
		}
		c := Counts{Points: 1}
		if err := checkKilled(dir, o.Seed, acked, 0, &c, fmt.Sprintf("kill %d", i)); err != nil {
			return total, err
		}
		total.add(c)
		if o.Progress != nil {
			o.Progress(i+1, o.Points)
		}
	}
	return total, os.RemoveAll(dir)
}

// killOne starts a child, kills it and collects what it acknowledged.
func killOne(ctx context.Context, o Options, dir string, acked map[uint32]uint64, delay time.Duration) error {
	args := append(append([]string(nil), o.SelfArgs...), "-dir", dir, "-seed", strconv.FormatUint(o.Seed, 10))
	cmd := exec.CommandContext(ctx, o.Self, args...)
	cmd.Env = append(os.Environ(), o.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stderr limited
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("crashtest: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("crashtest: start child: %w", err)
	}
	silent := time.AfterFunc(firstAckMax, func() { _ = cmd.Process.Kill() })
	defer silent.Stop()
	var timer *time.Timer
	n := 0
	for {
		var ack [AckLen]byte
		if _, err := io.ReadFull(out, ack[:]); err != nil {
			break // killed, or ended by itself
		}
		n++
		if timer == nil {
			silent.Stop()
			timer = time.AfterFunc(delay, func() { _ = cmd.Process.Kill() })
		}
		tenant, seq := binary.LittleEndian.Uint32(ack[0:]), binary.LittleEndian.Uint64(ack[4:])
		acked[tenant] = max(acked[tenant], seq)
	}
	if timer != nil {
		defer timer.Stop()
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL && n > 0 {
		return ctx.Err()
	}
	if n == 0 && exit != nil && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL && ctx.Err() == nil {
		return fmt.Errorf("crashtest: child was killed without an acknowledgement; it has %v for the first: %s", firstAckMax, stderr.text)
	}
	return fmt.Errorf("crashtest: child ended by itself after %d acknowledgements: %v: %s", n, err, stderr.text)
}

// checkKilled recovers the log and looks for every acknowledged record. A
// tenant submits one record at a time, so at most one more can be there, beside
// those whose acknowledgement the child wrote and nobody heard: unheardMax
// bounds them over all tenants. Each record that is there must be the one that
// the seed states, which nobody but the child can have submitted.
func checkKilled(dir string, seed uint64, acked map[uint32]uint64, unheardMax uint64, c *Counts, where string) error {
	dev, err := seglog.OpenDir(dir, seglog.DirOptions{})
	if err != nil {
		return fmt.Errorf("crashtest: %w", err)
	}
	defer dev.Close()
	log, err := seglog.OpenDevice(dev, killOptions())
	if err != nil {
		if !errors.Is(err, seglog.ErrCorrupt) {
			return fmt.Errorf("crashtest: %s: %w", where, err)
		}
		c.Lost++
		c.note("%s: recovery refuses: %v", where, err)
		return nil
	}
	if log.Recovery().TornAt != "" {
		c.Torn++
	}
	for tenant := range uint32(killTenants) {
		_, last := log.Range(tenant)
		if last > acked[tenant]+1 {
			ahead := last - acked[tenant] - 1
			unheard := min(ahead, unheardMax)
			unheardMax -= unheard
			if ahead > unheard {
				c.Phantom += ahead - unheard
				c.note("%s: tenant %d has %d records, %d were acknowledged and one more submitted", where, tenant, last, acked[tenant])
			}
		}
		for seq := uint64(1); seq <= max(last, acked[tenant]); seq++ {
			got, err := log.Read(tenant, seq)
			(*oracle)(nil).mustHave(c, where, tenant, seq, killPayload(seed, tenant, seq), got, err)
		}
		if last > acked[tenant] {
			c.Unacked += last - acked[tenant]
			c.Checked -= last - acked[tenant]
		}
		acked[tenant] = max(acked[tenant], last) // durable now
	}
	return log.Close()
}

// Acks are the highest sequence number that each tenant was acknowledged.
type Acks map[uint32]uint64

// Take adds what ChildMain wrote and returns the rest, an acknowledgement that
// is not whole yet.
func (a Acks) Take(written []byte) (rest []byte) {
	for len(written) >= AckLen {
		tenant, seq := binary.LittleEndian.Uint32(written), binary.LittleEndian.Uint64(written[4:])
		a[tenant] = max(a[tenant], seq)
		written = written[AckLen:]
	}
	return written
}

// Records is how many records were acknowledged.
func (a Acks) Records() uint64 {
	var sum uint64
	for _, seq := range a {
		sum += seq
	}
	return sum
}

// CheckChild recovers the log that a ChildMain left, wherever and however it was
// ended, and looks for every record that it acknowledged. Where the child's
// output passes through buffers that end with it, it may have written up to
// unheardMax acknowledgements that are not in acks.
func CheckChild(dir string, seed uint64, acks Acks, unheardMax uint64, where string) (Counts, error) {
	c := Counts{Points: 1}
	err := checkKilled(dir, seed, acks, unheardMax, &c, where)
	return c, err
}

// limited keeps the start of what a child says.
type limited struct{ text []byte }

func (l *limited) Write(p []byte) (int, error) {
	if room := 4096 - len(l.text); room > 0 {
		l.text = append(l.text, p[:min(room, len(p))]...)
	}
	return len(p), nil
}
