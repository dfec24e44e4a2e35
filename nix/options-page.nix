# Page of the modules' options, made from the modules, and compared with the committed one.
{ self, pkgs }:
let
  page = import ./options-text.nix { inherit self pkgs; };
in
pkgs.runCommand "options-page"
  {
    inherit page;
    passAsFile = [ "page" ];
  }
  ''
    diff ${../docs/nixos-options.md} "$pagePath" || {
      echo 'docs/nixos-options.md is not what the modules say: nix eval --raw .#checks.${pkgs.stdenv.hostPlatform.system}.options-page.page > docs/nixos-options.md'
      exit 1
    }
    cp "$pagePath" $out
  ''
