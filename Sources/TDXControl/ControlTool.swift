internal import ArgumentParser
internal import CLinux
internal import LinuxSystem

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
        let parsed: any ParsableCommand
        do {
            parsed = try Tdxctl.parseAsRoot(arguments)
        } catch {
            return explain(error, console)
        }
        guard let command = parsed as? any ControlCommand else {
            // The root itself, or one of the parser's own commands such as help.
            do {
                var command = parsed
                try command.run()
                return ExitStatus.ok.rawValue
            } catch {
                return explain(error, console)
            }
        }
        let context = Context(command.root.options, command.options, environment: environment, console: console)
        do throws(Failure) {
            return try command.execute(context).rawValue
        } catch {
            context.tell(error)
            return error.status.rawValue
        }
    }

    /// Help and versions go to standard output; what is wrong with a command line goes to standard error.
    private static func explain(_ error: any Error, _ console: Console) -> Int32 {
        let text = Tdxctl.fullMessage(for: error)
        guard Tdxctl.exitCode(for: error) != .success else {
            console.write(text + "\n")
            return ExitStatus.ok.rawValue
        }
        console.writeError(text + "\n")
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
