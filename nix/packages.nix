# The programs, and the packages made of them.
{
  self,
  crane,
  pkgs,
}:
let
  inherit (pkgs) lib;
  craneLib = crane.mkLib pkgs;

  # One list for Nix and for the test that compares it with the files that the compiler reads.
  sources = lib.importJSON ./sources.json;
  source =
    paths:
    lib.fileset.toSource {
      root = ../.;
      fileset = lib.fileset.unions (map (path: ../. + "/${path}") paths);
    };

  common = {
    pname = "apollo-network-benchmark";
    inherit (craneLib.crateNameFromCargoToml { cargoToml = ../Cargo.toml; }) version;
    src = source sources.build;
    strictDeps = true;
    # A patched dependency counts as a dependency: crane would empty it like the project's own sources.
    extraDummyScript = "cp -r --no-preserve=mode ${../patches}/. $out/patches/";
  };
  checked = common // {
    src = source (sources.build ++ sources.checks);
    cargoArtifacts = dependencies;
  };

  # Compiled once, for the packages and for all checks.
  dependencies = craneLib.buildDepsOnly (
    common
    // {
      src = source (
        sources.build
        ++ [
          "tests"
          "examples"
        ]
      );
    }
  );

  revision = self.rev or self.dirtyRev or null;

  # `features` are profilers, which the normal build does not contain.
  programs =
    features:
    craneLib.buildPackage (
      common
      // {
        pname = lib.concatStringsSep "-" ([ common.pname ] ++ features);
        cargoArtifacts = dependencies;
        cargoExtraArgs = lib.concatStringsSep " " (
          [ "--locked" ] ++ lib.optional (features != [ ]) "--features ${lib.concatStringsSep "," features}"
        );
        # The tests are a check of their own.
        doCheck = false;
        # Profiles need line numbers.
        dontStrip = features != [ ];
        # Not as SOURCE_DATE_EPOCH, which must be the same for everything that is compiled here: otherwise dependencies
        # in C would be compiled again for each commit.
        env = {
          APOLLO_BENCH_DATE_EPOCH = toString (self.lastModified or 1);
        }
        // lib.optionalAttrs (revision != null) { APOLLO_BENCH_REVISION = revision; };
        nativeBuildInputs = [ pkgs.installShellFiles ];
        postInstall = lib.optionalString (pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform) ''
          $out/bin/apollo-bench man man
          installManPage man/*
          for shell in bash fish zsh; do
            $out/bin/apollo-bench completions $shell > apollo-bench.$shell
            installShellCompletion apollo-bench.$shell
          done
        '';
        meta = {
          description = "Benchmark of libp2p networks: throughput, delay, and the first point of failure";
          license = lib.licenses.asl20;
          mainProgram = "apollo-bench";
          platforms = [
            "x86_64-linux"
            "aarch64-linux"
          ];
        };
      }
    );

  # tc and ip are found even if they are not installed; those of the system take precedence.
  withTools =
    unwrapped:
    pkgs.runCommand unwrapped.name
      {
        nativeBuildInputs = [ pkgs.makeWrapper ];
        passthru = { inherit unwrapped; };
        inherit (unwrapped) version meta;
        pname = unwrapped.pname;
      }
      ''
        mkdir -p $out/bin
        ln -s ${unwrapped}/share $out/share
        ln -s ${unwrapped}/bin/broadcast_network_stress_test_node $out/bin/
        makeWrapper ${unwrapped}/bin/apollo-bench $out/bin/apollo-bench \
          --suffix PATH : ${lib.makeBinPath [ pkgs.iproute2 ]}
      '';

  default = programs [ ];
in
{
  inherit
    craneLib
    checked
    ;
  packages = {
    default = withTools default;
    image = import ./image.nix {
      inherit pkgs revision;
      programs = default;
    };
    profile-cpu = withTools (programs [ "profile-cpu" ]);
    profile-mem = withTools (programs [ "profile-mem" ]);
    profile-dhat = withTools (programs [ "profile-dhat" ]);
  };
}
