internal import ArgumentParser
internal import InterfaceGenerator
internal import LinuxSystem
internal import Varlink

/// Writes Swift to standard output; scripts/generate-interfaces calls it.
struct Generate: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "varlink-generate", abstract: "Write the Swift types of a Varlink interface.")

    enum Part: String, CaseIterable, ExpressibleByArgument { case types, errors }

    @Argument(help: "What to write: types or errors.") var part: Part
    @Argument(help: "The interface's file.") var file: String
    @Option(help: "The file of an interface that this one extends.") var base: [String] = []

    func run() throws {
        func parse(_ path: String) throws -> VarlinkInterface {
            do { return try VarlinkInterface(parsing: try TextFile.read(path)) } catch let error as InterfaceError {
                throw ValidationError("\(path): \(error)")
            }
        }
        do {
            let generator = try InterfaceGenerator(try parse(file), extending: try base.map(parse))
            print(part == .types ? try generator.types() : try generator.errors(), terminator: "")
        } catch let error as GeneratorError {
            throw ValidationError("\(file): \(error)")
        }
    }
}

Generate.main()
