"""Policy scripts of Momentum, in Lua, as they stand.

``host.py`` declares functions of Python for scripts.  ``conversion.py`` has the values on their way between the two,
and ``host_calls.py`` is the bridge.  ``state.py`` is one Lua state with its limits.

The Lua side of the state is in ``prelude/``.  ``bounds.lua`` runs callouts and counts what they use, ``sandbox.lua``
makes their globals, and ``objects.lua`` makes the objects of the host.  ``patterns.lua`` and ``sizes.lua`` bound the
functions of strings and tables.

``lexer.py`` and ``translate.py`` make Lua 5.1 of Momentum's dialect, whose operators are in ``prelude/operators.lua``.

``engine.py`` is one set of scripts: ``module_finder.py`` finds them, and ``callout.py`` is what a callout is about.
``script_policy.py`` makes a policy of them.  ``script_passwords.py`` is its part that checks passwords, and
``script_console.py`` runs commands of the console.  ``answer_functions.py`` has the functions by which scripts answer,
and ``api/`` has all others.

The extra ``lua`` installs lupa.  This package is imported only if a configuration has scripts.
"""
