internal import ArgumentParser
internal import CLinux
internal import LinuxSystem
internal import MemoryUnits

/// The program tdxctl: reads its command line, asks tdxd, and shows the answer.
public enum ControlTool {
    /// Runs with the process's own arguments and environment, and exits.
    public static func main() -> Never {
        let environment = environmentVariables()
        var console = Console.current(environment: environment)
        // A socket that got the number of a closed standard output would be sent what is printed.
        if (try? CurrentProcess.openStandardDescriptors())?.contains(1) != false { console.lostOutput = { true } }
        let status = run(Array(CommandLine.arguments.dropFirst()), environment: environment, console: console)
        tdxd_exit(status)
    }

    /// Runs one command line; gives the exit status.
    static func run(_ arguments: [String], environment: [String: String], console: Console) -> Int32 {
        let status = perform(arguments, environment: environment, console: console)
        guard status == ExitStatus.ok.rawValue, console.lostOutput() else { return status }
        console.writeError("tdxctl: the answer could not be written to standard output\n")
        return ExitStatus.failed.rawValue
    }

    private static func perform(_ arguments: [String], environment: [String: String], console: Console) -> Int32 {
        if let unknown = unknownCommand(in: arguments) { return refuse(unknown, arguments, console) }
        let parsed: any ParsableCommand
        do {
            parsed = try Tdxctl.parseAsRoot(arguments)
        } catch {
            return explain(error, arguments, console)
        }
        guard let command = parsed as? any ControlCommand else {
            // The root itself, or one of the parser's own commands such as help.
            do {
                var command = parsed
                try command.run()
                return ExitStatus.ok.rawValue
            } catch {
                return explain(error, arguments, console)
            }
        }
        let context = Context(command.root.options, command.options, environment: environment, console: console)
        do throws(Failure) {
            return try command.status(context)
        } catch {
            context.tell(error)
            return error.status.rawValue
        }
    }

    /// Help and versions go to standard output; what is wrong with a command line goes to standard error.
    private static func explain(_ error: any Error, _ arguments: [String], _ console: Console) -> Int32 {
        let text = Tdxctl.fullMessage(for: error)
        guard Tdxctl.exitCode(for: error) != .success else {
            console.write(text + "\n")
            return ExitStatus.ok.rawValue
        }
        guard let mode = jsonMode(of: arguments, console) else {
            console.writeError(text + "\n")
            return ExitStatus.usage.rawValue
        }
        return refuse(Tdxctl.message(for: error), hint: nil, mode, console)
    }

    /// The options for JSON as they stand on a command line that cannot be parsed; nil where text is wanted.
    private static func jsonMode(of arguments: [String], _ console: Console) -> JSONMode? {
        var mode: JSONMode?
        for (index, argument) in arguments.enumerated() {
            switch argument {
            case "-j": mode = console.outputIsTerminal ? .pretty : .short
            case "--json": mode = arguments.dropFirst(index + 1).first.flatMap { JSONMode(rawValue: $0) } ?? mode
            case "--": return mode == .off ? nil : mode
            default:
                if argument.hasPrefix("--json=") { mode = JSONMode(rawValue: String(argument.dropFirst(7))) ?? mode }
            }
        }
        return mode == .off ? nil : mode
    }

    private static func refuse(_ message: String, hint: String?, _ mode: JSONMode, _ console: Console) -> Int32 {
        let failure = Failure(status: .usage, code: "usage", message: message, hint: hint)
        console.writeError(json(FailureRecord(failure), mode))
        return ExitStatus.usage.rawValue
    }

    /// A word in the place of a command that is none, and the nearest command where one is near.
    struct UnknownCommand: Hashable {
        var word: String
        /// What it should have been: a command, or one of a command's own, such as "certificate show".
        var nearest: String?
    }

    static func unknownCommand(in arguments: [String]) -> UnknownCommand? {
        var words: [String] = []
        var skips = false
        for argument in arguments {
            if skips {
                skips = false
            } else if ["--socket", "--json", "--generate-completion-script"].contains(argument) {
                skips = true
            } else if argument == "--" {
                break
            } else if !argument.hasPrefix("-") {
                words.append(argument)
                if words.count == 3 { break }
            }
        }
        if words.first == "help" { words.removeFirst() }
        var path = ""
        var commands = Tdxctl.configuration.subcommands
        for word in words {
            guard !commands.isEmpty else { return nil }
            let names = commands.map { $0.configuration.commandName ?? "" }
            guard let index = names.firstIndex(of: word) else {
                return UnknownCommand(word: word, nearest: nearestName(to: word, among: names).map { path + $0 })
            }
            path += word + " "
            commands = commands[index].configuration.subcommands
        }
        return nil
    }

    private static func refuse(_ unknown: UnknownCommand, _ arguments: [String], _ console: Console) -> Int32 {
        let message = "unknown command “\(printable(unknown.word))”"
        let hint = unknown.nearest.map { "did you mean “tdxctl \($0)”?" } ?? "“tdxctl help” lists the commands"
        if let mode = jsonMode(of: arguments, console) { return refuse(message, hint: hint, mode, console) }
        console.writeError("Error: \(message); \(hint)\n")
        return ExitStatus.usage.rawValue
    }

    private static func environmentVariables() -> [String: String] {
        var result: [String: String] = [:]
        guard var entry = tdxd_environment() else { return result }
        while let text = entry.pointee {
            let parts = String(cString: text).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            if parts.count == 2 { result[String(parts[0])] = String(parts[1]) }
            entry += 1
        }
        return result
    }
}
