package cli

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// command finds nexus command lines in prose and code blocks.
var command = regexp.MustCompile("(?m)(?:^|`|\\$ |&& )(?:bin/)?nexus ([a-z][^`\n|&#;>]*)")

// TestDocsCommandsExist holds every nexus command line in the project's
// documents against the real commands and flags.
func TestDocsCommandsExist(t *testing.T) {
	var documents []string
	for _, pattern := range []string{"../*.md", "../docs/*.md", "../labs/*/*.md", "../reports/*.md", "../.ci/run", "../Makefile"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, found...)
	}
	seen := 0
	for _, document := range documents {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range command.FindAllStringSubmatch(string(text), -1) {
			seen++
			checkCommand(t, document, strings.Fields(match[1]))
		}
	}
	if seen < 10 {
		t.Fatalf("only %d commands were found in %d documents: the pattern does not fit them", seen, len(documents))
	}
}

func checkCommand(t *testing.T, document string, words []string) {
	t.Helper()
	root := newRoot(&terminal{stdout: io.Discard, stderr: io.Discard})
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	found, rest, err := root.Find(words)
	if err != nil || found == root {
		t.Errorf("%s: nexus %s: no such command", document, strings.Join(words, " "))
		return
	}
	found.InitDefaultHelpFlag()
	for _, word := range rest {
		if word == "--" {
			return // another program's words
		}
		name, isFlag := strings.CutPrefix(word, "--")
		if !isFlag {
			continue
		}
		name, _, _ = strings.Cut(name, "=")
		if flagOf(found.Flags(), name) == nil && flagOf(root.PersistentFlags(), name) == nil {
			t.Errorf("%s: nexus %s: no flag --%s", document, strings.Join(words, " "), name)
		}
	}
}

func flagOf(flags *pflag.FlagSet, name string) *pflag.Flag { return flags.Lookup(name) }
