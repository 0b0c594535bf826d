"""Money in templates: `{{ job.price_micros|credits }}`."""

from django import template

from accounts import credits

register = template.Library()
register.filter("credits", credits.credits)
register.filter("usd", lambda micros: credits.usd(micros))
register.filter("price", credits.price)
register.filter("both", credits.both)
register.filter("is_hit", lambda cap, least: cap.is_hit(least))  # `least`: the cheapest picture's price
