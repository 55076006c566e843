//go:build tools

// Package tools pins what the rig builds: buildkitd.
package tools

import _ "github.com/moby/buildkit/cmd/buildkitd"
