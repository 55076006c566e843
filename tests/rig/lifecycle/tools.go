//go:build tools

// Package tools pins what the rig builds: the buildpacks lifecycle.
package tools

import (
	_ "github.com/buildpacks/lifecycle/cmd/launcher"
	_ "github.com/buildpacks/lifecycle/cmd/lifecycle"
)
