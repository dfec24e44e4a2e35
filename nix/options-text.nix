# All options of the modules as Markdown.
{ self, pkgs }:
let
  inherit (pkgs) lib;
  evaluated = lib.evalModules {
    specialArgs.utils = { };
    modules = [
      self.nixosModules.default
      {
        _module.args.pkgs = pkgs;
        _module.check = false;
      }
    ];
  };
  options = lib.filter (option: option.visible && !option.internal) (
    lib.optionAttrSetToDocList { inherit (evaluated.options.services) apollo-network-benchmark; }
  );
  text =
    value:
    if value._type or "" == "literalExpression" then
      "`" + oneLine value.text + "`"
    else if value._type or "" == "literalMD" then
      value.text
    else
      oneLine (lib.generators.toPretty { } value);
  oneLine =
    words:
    lib.concatStringsSep " " (
      lib.filter (word: word != "") (lib.splitString " " (lib.replaceStrings [ "\n" ] [ " " ] words))
    );
  description =
    option:
    oneLine (if lib.isAttrs option.description then option.description.text else option.description);
  entry =
    option:
    ''
      ### `${option.name}`

      ${description option}

      - type: ${option.type}
    ''
    + lib.optionalString (option ? default) "- default: ${text option.default}\n"
    + lib.optionalString (option ? example) "- example: ${text option.example}\n";
in
''
  # Options of the NixOS modules

  Made from the modules, and compared with them by a check of the flake.

''
+ lib.concatStringsSep "\n" (map entry options)
