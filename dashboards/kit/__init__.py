"""The design system of the boards: theme, panels, tables, buttons, PromQL from catalogue rows."""
