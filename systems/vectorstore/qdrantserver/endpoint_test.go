package qdrantserver

import (
	"strings"
	"testing"

	"github.com/qdrant/go-client/qdrant"

	"github.com/nexuscore-labs/nexus/systems/vectorstore"
)

func TestParseURL(t *testing.T) {
	for text, want := range map[string]string{
		"localhost:7000":          "localhost 7000 false",
		"http://q.example:6334":   "q.example 6334 false",
		"https://q.example":       "q.example 6334 true",
		"grpc://[::1]:6334":       "::1 6334 false",
		"":                        "",
		"q.example":               "",
		":6334":                   "",
		"q.example:x":             "",
		"q.example:70000":         "",
		"ftp://q.example:6334":    "",
		"http://":                 "",
		"http://q.example:6334:1": "",
	} {
		config, err := parseURL(text)
		got := strings.Join([]string{config.Host, vectorstore.NumID(uint64(config.Port)).String(), map[bool]string{true: "true", false: "false"}[config.UseTLS]}, " ")
		if (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%q is %s, error %v, want %q", text, got, err, want)
		}
	}
}

// TestFind: without the variable an embedded server starts; with it, what it
// names is used, and nothing there is an error that says so.
func TestFind(t *testing.T) {
	t.Setenv(EnvURL, "")
	e, err := Find(ctx, t.TempDir(), vectorstore.Options{})
	must(t, err)
	if !e.Embedded || e.Served == "" {
		t.Errorf("%+v", e)
	}
	t.Setenv(EnvURL, e.Config.Host+":"+vectorstore.NumID(uint64(e.Config.Port)).String())
	again, err := Find(ctx, t.TempDir(), vectorstore.Options{})
	must(t, err)
	if again.Embedded || again.Served != e.Served {
		t.Errorf("%+v", again)
	}
	config := again.Config
	client, err := qdrant.NewClient(&config)
	must(t, err)
	if names, err := client.ListCollections(ctx); err != nil || len(names) != 0 {
		t.Errorf("collections %v, error %v", names, err)
	}
	must(t, client.Close())
	must(t, again.Close())
	must(t, e.Close())
	if _, err := Find(ctx, t.TempDir(), vectorstore.Options{}); err == nil {
		t.Error("a server that is gone was found")
	}
	t.Setenv(EnvURL, "nonsense")
	if _, err := Find(ctx, t.TempDir(), vectorstore.Options{}); err == nil || !strings.Contains(err.Error(), EnvURL) {
		t.Errorf("error %v", err)
	}
}
