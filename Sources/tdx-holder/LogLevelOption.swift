import ArgumentParser
import Logging

struct LogLevelOption: ParsableArguments {
    @Option(
        help: "trace, debug, info, notice, warning, error or critical.",
        transform: { text in
            guard let level = Logger.Level(rawValue: text) else {
                throw ValidationError("unknown log level “\(text)”; use one from trace to critical.")
            }
            return level
        })
    var logLevel = Logger.Level.info
}
