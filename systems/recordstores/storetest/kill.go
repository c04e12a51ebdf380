package storetest

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// childEnv makes the test binary a writer on the folder that it names.
const childEnv = "NEXUS_STORETEST_CHILD_DIR"

// childTenants is how many writers the child has, one tenant each.
const childTenants = 8

// Main runs the package's tests, or, in a child process started by Run, the
// writer that is going to be killed.
func Main(m *testing.M, kind Kind) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := kind.write(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// write goes on where dir ends and says each acknowledgement on stdout, until
// it is killed.
func (k Kind) write(dir string) error {
	last, err := k.scan(dir)
	if err != nil {
		return err
	}
	store, err := k.Open(dir)
	if err != nil {
		return err
	}
	failed := make(chan error)
	for tenant := range uint32(childTenants) {
		go func() {
			for seq := last[tenant] + 1; ; seq++ {
				if err := appendNext(store, tenant, seq); err != nil {
					failed <- err
					return
				}
				// One write(2) below PIPE_BUF each: never torn, never buffered.
				os.Stdout.WriteString(fmt.Sprintf("%d %d\n", tenant, seq))
			}
		}()
	}
	return <-failed
}

// testKill kills a writer at seeded moments, again and again on one folder:
// what it acknowledged is there, and nothing that it did not write.
func (k Kind) testKill(t *testing.T) {
	rounds := 3
	if os.Getenv("NEXUS_FULL") != "" {
		rounds = 30
	}
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(1, 2))
	acked := make(map[uint32]uint64)
	for round := range rounds {
		before := sum(acked)
		if err := killOnce(dir, rng.IntN(200)+1, acked); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		stored, err := k.scan(dir)
		if err != nil {
			t.Fatalf("round %d: scan: %v", round, err)
		}
		for tenant, n := range acked {
			// Each writer has one append under way at most.
			if stored[tenant] < n || stored[tenant] > n+1 {
				t.Fatalf("round %d: tenant %d: %d acknowledged, %d stored", round, tenant, n, stored[tenant])
			}
			acked[tenant] = stored[tenant]
		}
		if sum(acked) == before {
			t.Fatalf("round %d: the child acknowledged nothing", round)
		}
	}
}

func sum(counts map[uint32]uint64) (total uint64) {
	for _, n := range counts {
		total += n
	}
	return total
}

// killOnce runs a writer on dir, kills it after some acknowledgements and
// records all that it got out.
func killOnce(dir string, after int, acked map[uint32]uint64) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.Command(self)
	child.Env = append(os.Environ(), childEnv+"="+dir)
	var stderr strings.Builder
	child.Stderr = &stderr
	stdout, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	var kill sync.Once
	seen := 0
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		var tenant uint32
		var seq uint64
		if _, err := fmt.Sscanf(lines.Text(), "%d %d", &tenant, &seq); err != nil {
			child.Process.Kill()
			child.Wait()
			return fmt.Errorf("child said %q: %w", lines.Text(), err)
		}
		acked[tenant] = seq
		if seen++; seen >= after {
			kill.Do(func() { child.Process.Kill() })
		}
	}
	child.Wait()
	if seen < after {
		return fmt.Errorf("the child ended by itself after %d acknowledgements: %s", seen, stderr.String())
	}
	return nil
}
